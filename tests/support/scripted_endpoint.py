"""
An OpenAI-compatible server on 127.0.0.1 with scripted replies and the faults of real servers.

    with ScriptedEndpoint(lambda request: "Ответ") as server:
        Endpoint(server.url, "any-model")

The function receives each chat request (a dict, with its `number` from 0) and returns a text, or one of `status`, `raw`, `cut` and
`hang_up`. `server.requests` has all requests.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Action(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str] | None = None
    missing_bytes: int = 0
    hang_up: bool = False


def completion(text: str | None, finish_reason: str = "stop", usage: tuple[int, int] | None = (11, 7)) -> Action:
    value: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}},
        ],
    }
    if usage:
        value["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Action(200, json.dumps(value).encode())


def status(code: int, message: str = "", retry_after: str | None = "0.01", key: str = "error") -> Action:
    """Return an error with a Retry-After of a hundredth of a second."""
    body = {"error": {"message": message, "type": "error"}} if key == "error" else {key: message}
    return Action(code, json.dumps(body).encode(), {"Retry-After": retry_after} if retry_after else None)


def raw(body: str, content_type: str = "application/json") -> Action:
    return Action(200, body.encode(), {"Content-Type": content_type})


def cut(text: str) -> Action:
    """Return a body that is shorter than its announced length."""
    return completion(text)._replace(missing_bytes=100)


def hang_up() -> Action:
    """Close the connection without a response."""
    return Action(0, b"", hang_up=True)


class ScriptedEndpoint:
    def __init__(self, answer: Callable[[dict], "str | Action"], models: tuple[str, ...] = ("judge",)):
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in models]}
                self.send(Action(200, json.dumps(listed).encode()))

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    request["number"] = len(outer.requests)
                    request["path"] = self.path
                    outer.requests.append(request)
                    outer.keys.append(self.headers.get("Authorization"))
                made = answer(request)
                self.send(completion(made) if isinstance(made, str) else made)

            def send(self, action: Action):
                if action.hang_up:
                    self.close_connection = True
                    return
                self.send_response(action.status)
                headers = {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(action.body) + action.missing_bytes),
                }
                for name, value in (headers | (action.headers or {})).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(action.body)
                self.close_connection = self.close_connection or action.missing_bytes > 0

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> "ScriptedEndpoint":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def questions(self) -> list[str]:
        """Return the requested texts without the client's trial request."""
        texts = [request["messages"][-1]["content"] for request in self.requests]
        return [text for text in texts if '{"ok": true}' not in text]
