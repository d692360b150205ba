"""Things that go wrong between a client and the Hub, told in advance."""

import re
from dataclasses import dataclass, field
from math import inf


@dataclass
class Fault:
    """
    What happens to the requests of a method and an address, in place of the answer or on the way to it.

    One of `status`, `reset`, `cut`, `lost` or `down` says what goes wrong; with `delay` alone the answer is only late.

    Args:
        method (`str`): Method, or several as `POST|PUT`; `.*` for all.
        path (`str`): Regular expression, searched in the path with its query.
        times (`float`, *optional*, defaults to `1`): How many requests it hits; `math.inf` for all of them.
        skip (`int`, *optional*, defaults to `0`): How many matching requests pass unharmed before.
        status (`int`, *optional*): Answer this status, nothing is done.
        headers (`dict`, *optional*): Headers of that answer, e.g. `{"Retry-After": "1"}`.
        body (`dict`, *optional*): JSON body of that answer.
        reset (`int`, *optional*): Read this many bytes of the body (0: none), then reset the connection; nothing is done.
        cut (`int`, *optional*): Do the work, send the head of the answer and this many bytes of its body, then close.
        lost (`bool`, *optional*): Do the work, then reset the connection without an answer, or answer `status` if it is given.
        down (`float`, *optional*): Reset the connection and refuse all new ones for this many seconds.
        delay (`float`, *optional*): Wait this many seconds first.
        then (callable, *optional*): Called at each hit, before anything else; e.g. to revoke a token in the middle.
    """

    method: str
    path: str
    times: float = 1
    skip: int = 0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: dict | None = None
    reset: int | None = None
    cut: int | None = None
    lost: bool = False
    down: float = 0
    delay: float = 0
    then: object = None
    hits: int = 0

    @property
    def name(self) -> str:
        parts = {
            "lost": self.lost,
            "status": self.status,
            "reset": self.reset,
            "cut": self.cut,
            "down": self.down or None,
            "delay": self.delay or None,
        }
        return " ".join(
            key if value is True else f"{key} {value}"
            for key, value in parts.items()
            if value is not None and value is not False
        )

    @property
    def used_up(self) -> bool:
        """Whether it happened as often as told; one without an end must have happened at least once."""
        return self.hits == self.times or (self.times == inf and self.hits > 0)


def fits(method: str, path: str, request_method: str, request_path: str) -> bool:
    """Whether a request is one of those that a method and an address name."""
    return bool(re.fullmatch(method, request_method) and re.search(path, request_path))


def next_fault(faults: list[Fault], method: str, path: str) -> Fault | None:
    """The first fault that is due for a request, counted as hit. Every match before it counts down its `skip`."""
    for fault in faults:
        if fault.hits < fault.times and fits(fault.method, fault.path, method, path):
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.hits += 1
            return fault
    return None
