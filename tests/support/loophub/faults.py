"""Planned faults between a client and the Hub."""

import re
from dataclasses import dataclass, field
from math import inf


@dataclass
class Fault:
    """
    A fault of requests with a given method and path.

    One of `status`, `reset`, `cut`, `lost` or `down` is the kind of fault; `delay` alone only delays the response.

    Args:
        method (`str`): Method, or several as `POST|PUT`; `.*` for all.
        path (`str`): Regular expression, searched in the path with its query.
        times (`float`, *optional*, defaults to `1`): How many requests it hits; `math.inf` for all of them.
        skip (`int`, *optional*, defaults to `0`): How many matching requests succeed first.
        status (`int`, *optional*): Respond with this status and do nothing.
        headers (`dict`, *optional*): Headers of that response, e.g. `{"Retry-After": "1"}`.
        body (`dict`, *optional*): JSON body of that response.
        reset (`int`, *optional*): Read this many bytes of the body (0: none), then reset the connection; nothing is done.
        cut (`int`, *optional*): Do the work, send the response's headers and this many bytes of its body, then close.
        lost (`bool`, *optional*): Do the work, then reset the connection without a response, or respond with `status` if it is given.
        down (`float`, *optional*): Reset the connection and refuse all new ones for this many seconds.
        delay (`float`, *optional*): Wait this many seconds first.
        then (callable, *optional*): Called first at each hit, e.g. to revoke a token.
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
        """Check that the fault happened as often as planned, or at least once if it is unlimited."""
        return self.hits == self.times or (self.times == inf and self.hits > 0)


def fits(method: str, path: str, request_method: str, request_path: str) -> bool:
    """Check whether a request matches a method and a path."""
    return bool(re.fullmatch(method, request_method) and re.search(path, request_path))


def next_fault(faults: list[Fault], method: str, path: str) -> Fault | None:
    """Return the first due fault of a request and count it. Each earlier match decrements its `skip`."""
    for fault in faults:
        if fault.hits < fault.times and fits(fault.method, fault.path, method, path):
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.hits += 1
            return fault
    return None
