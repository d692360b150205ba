"""Started by Python itself in the clients of the loopback Hub: no name but this machine's own is looked up."""

import socket

look_up = socket.getaddrinfo


def look_up_here(host, *arguments, **options):
    name = host.decode() if isinstance(host, bytes) else host
    if name not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname()):
        raise socket.gaierror(socket.EAI_NONAME, f"{name} is not this machine, and a test asks no other")
    return look_up(host, *arguments, **options)


socket.getaddrinfo = look_up_here
