"""Serve the rating page until Ctrl-C."""

import socket

import uvicorn

from ..errors import PreferansError
from .access import is_loopback, new_password
from .studio import Studio
from .web import make_app


def serve(studio: Studio) -> None:
    """
    Serve a rating page until Ctrl-C, and print its address first.

    Raises:
        [`PreferansError`]: if the address cannot be used.
    """
    listening = _listen(studio.host, studio.port)
    if not is_loopback(studio.host):
        studio.password = new_password()
        print(f"Password for the raters, shown only now: {studio.password}")
        print("The page is not encrypted: use it only in a network that you trust.")
    shown = socket.gethostname() if studio.host == "0.0.0.0" else studio.host
    print(f"Open http://{shown}:{studio.port} in a browser. Ctrl-C stops; the same command resumes.", flush=True)
    server = uvicorn.Server(uvicorn.Config(make_app(studio), log_level="warning"))
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn raises it again after it has closed the connections
        pass
    finally:
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise PreferansError(
            f"--host {host} --port {port}: this address cannot be used ({error.strerror or error}). If another page runs there, stop it or "
            "choose another --port."
        ) from None
