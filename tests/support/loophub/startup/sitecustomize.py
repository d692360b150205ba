"""Loaded by Python in the loopback Hub's clients: only this machine's own name is resolved."""

import socket

look_up = socket.getaddrinfo


def look_up_here(host, *arguments, **options):
    name = host.decode() if isinstance(host, bytes) else host
    if name not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname()):
        raise socket.gaierror(socket.EAI_NONAME, f"{name} is not this machine, and tests use no other")
    return look_up(host, *arguments, **options)


socket.getaddrinfo = look_up_here
