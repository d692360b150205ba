"""The Hub behind a real socket: reads requests, causes faults and records everything."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from .faults import Fault, fits, next_fault
from .hub import Hub
from .routes import Request, Response, UnknownRoute, answer

CONTROL = "/loophub/faults"  # not a route of the real Hub: faults planned by a client's process


class LoopHub(Hub):
    """
    A Hub on a port of this machine.

    Attributes:
        url (`str`): For HF_ENDPOINT.
        requests (`list[Request]`): Every request so far, in order.
        faults (`list[Fault]`): Planned faults; see [`LoopHub.fault`].
    """

    def __init__(self):
        super().__init__()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._timers: list[threading.Timer] = []
        self._reserve(0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    # Up and down

    def _reserve(self, port: int) -> None:
        """Reserve the port without listening: connections are refused, and no other process gets the port."""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))

    def start(self) -> "LoopHub":
        """Start listening, for the first time or after [`LoopHub.stop`]."""
        with self.lock:
            if self._server is None:
                handler = type("BoundHandler", (Handler,), {"hub": self})
                self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=False)
                self._server.socket.close()
                self._server.socket, self._server.daemon_threads = self._socket, True
                self._server.server_activate()
                threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuse connections and close the open ones until [`LoopHub.start`]."""
        with self.lock:
            if self._server is None:
                return
            port = self._socket.getsockname()[1]
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()
            self._reserve(port)
            for connection in list(self._connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Make the Hub unreachable inside the `with` block."""
        self.stop()
        yield
        self.start()

    def down_for(self, seconds: float) -> None:
        """Make the Hub unreachable for some seconds."""
        timer = threading.Timer(seconds, self.start)
        timer.daemon = True
        self._timers.append(timer)
        self.stop()
        timer.start()

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self.stop()
        self._socket.close()

    # Faults and the record

    def fault(self, method: str, path: str, **what) -> Fault:
        """Plan a fault; the arguments are those of [`Fault`]."""
        fault = Fault(method, path, **what)
        with self.lock:
            self.faults.append(fault)
        return fault

    def asked(self, method: str = ".*", path: str = "") -> list[Request]:
        """Return the requests that match a method and a path as in [`Fault`]."""
        return [request for request in self.requests if fits(method, path, request.method, request.path)]

    def problems(self) -> list[str]:
        """Return what a test must not ignore: unknown routes, crashes of the Hub, and faults that did not happen as often as planned."""
        found = [f"{request.problem}: {request.method} {request.path}" for request in self.requests if request.problem]
        return found + [
            f"{fault.hits} instead of {fault.times} requests met the fault: {fault.method} {fault.path} ({fault.name})"
            for fault in self.faults
            if not fault.used_up
        ]


class Handler(BaseHTTPRequestHandler):
    """A connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True
    hub: LoopHub

    def setup(self):
        super().setup()
        self.hub._connections.add(self.connection)

    def finish(self):
        self.hub._connections.discard(self.connection)
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def handle(self):
        with contextlib.suppress(OSError):  # the other side went away, or the Hub did
            super().handle()

    def log_message(self, *arguments):
        pass

    def respond(self) -> None:
        if self.path == CONTROL:
            self.hub.fault(**json.loads(self._read()))
            return self._send(Response())
        request = Request(
            self.command,
            self.path,
            parse_qs(urlsplit(self.path).query),
            {name.lower(): value for name, value in self.headers.items()},
            self.hub.url,
        )
        with self.hub.lock:
            self.hub.requests.append(request)
            fault = next_fault(self.hub.faults, request.method, request.path)
            request.fault = fault.name if fault else None
        if fault and fault.then:
            fault.then()
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.down:
            self.hub._connections.discard(self.connection)
            self.hub.down_for(fault.down)
            return self._break()
        if fault and fault.reset is not None:
            self._read(fault.reset)
            return self._break()
        request.body = self._read()
        if fault and fault.status and not fault.lost:
            body = fault.body if fault.body is not None else {"error": f"This is a fault of status {fault.status}"}
            response = Response.of(body, fault.status)
            response.headers |= fault.headers
            request.status = response.status
            return self._send(response)
        response = self._answer(request)
        if fault and fault.lost and fault.status:
            response = Response.of({"error": "The answer was lost"}, fault.status)
            response.headers |= fault.headers
        elif fault and fault.lost:
            return self._break()
        request.status = response.status
        self._send(response, fault.cut if fault else None)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = respond

    def _answer(self, request: Request) -> Response:
        try:
            with self.hub.lock:
                return answer(self.hub, request)
        except UnknownRoute:
            request.problem = "unknown route"
            return Response.of({"error": "This loopback Hub does not know this route"}, 404)
        except Exception as error:
            request.problem = f"the Hub broke down with {error!r}"
            return Response.of({"error": request.problem}, 500)

    def _read(self, most: int | None = None) -> bytes:
        """Read the body, or its first bytes."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length if most is None else min(most, length))
        body = b""
        while most is None or len(body) < most:
            size = int(self.rfile.readline().split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                break
        return body

    def _send(self, response: Response, cut: int | None = None) -> None:
        self.send_response(response.status)
        ours = {"Content-Length": str(len(response.body)), "X-Request-Id": f"loophub-{len(self.hub.requests)}"}
        for name, value in (ours | response.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[:cut])
        if cut is not None:
            self.close_connection = True

    def _break(self) -> None:
        """Reset the connection without a response."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.hub._connections.discard(self.connection)
        self.rfile.close()
        self.connection.close()
