"""Who may use the rating page: checks of every request, sessions, and the password."""

import hmac
import ipaddress
import socket
from secrets import token_urlsafe
from urllib.parse import urlsplit

import psutil
from fastapi import FastAPI, HTTPException, Request, Response
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

HEADERS = {
    # the page loads nothing but its own style and script, and runs no script of an answer
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # with no-referrer, browsers would send forms with the origin "null"
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
DAYS = 30


def is_loopback(host: str) -> bool:
    """Check whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_password() -> str:
    """Return a random password that is easy to type."""
    return token_urlsafe(9)


def known_hosts(host: str) -> list[str]:
    """List the names under which a browser may reach the page: other names in the Host header are refused."""
    names = {"127.0.0.1", "localhost", host}
    if not is_loopback(host):
        addresses = (address.address for found in psutil.net_if_addrs().values() for address in found)
        names |= {socket.gethostname(), *(address for address in addresses if "." in address)}
    return sorted(names)


def protect(app: FastAPI, hosts: list[str], secret: str, port: int) -> None:
    """
    Add the checks of every request to the page.

    Args:
        app ([`~fastapi.FastAPI`]): The page.
        hosts (`list[str]`): Accepted names in the Host header, which keeps other sites from reaching the page by DNS rebinding.
        secret (`str`): Key that signs the session cookies.
        port (`int`): Port, for the cookie's name: browsers send cookies to all ports of a machine.
    """

    @app.middleware("http")
    async def _check_origin(request: Request, call_next) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            response = Response("This request comes from another site.", 403)
        else:
            response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    app.add_middleware(
        SessionMiddleware,
        secret_key=secret,
        session_cookie=f"preferans_{port}",
        max_age=DAYS * 86_400,
        same_site="strict",
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)


def form_token(request: Request) -> str:
    """Return the session's token, which every form must carry."""
    return request.session.setdefault("token", token_urlsafe(16))


def check_form_token(request: Request, token: str) -> None:
    """
    Check the token of a form.

    Raises:
        [`~fastapi.HTTPException`]: with status 403 if it is not the session's.
    """
    if not hmac.compare_digest(token.encode(), str(request.session.get("token", "")).encode()) or not token:
        raise HTTPException(403, "The form has no valid token. Reload the page.")


def check_password(password: str | None, given: str) -> bool:
    """Check a password in constant time; without one, everybody may enter."""
    return password is None or hmac.compare_digest(password.encode(), given.encode())
