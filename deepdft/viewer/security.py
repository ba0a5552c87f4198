"""Who may talk to the page: host names, a token, sizes of requests, and what a browser may load."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOOPBACK", "Guard", "is_loopback"]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Host names by which a page on this machine is reached."""

_HEADERS = {
    # 3Dmol writes style attributes; everything else comes from this server
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach a server that listens on a host."""
    return host in ("localhost", "::1") or host.startswith("127.")


class Guard:
    """Middleware: refuses foreign Host and Origin headers, requests without the token, and bodies that are too large.

    Args:
        app: what it guards.
        hosts: names under which the page is served; a request with another Host header is refused, so that a web page
            elsewhere cannot reach the server by a name of its own that points here (DNS rebinding).
        token: what a visitor must know, or None; it is taken from `?token=` once and kept in a cookie, or from the
            header `Authorization: Bearer`.
        max_body: bytes of a request.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], token: str | None, max_body: int) -> None:
        self.app, self.hosts, self.token, self.max_body = app, frozenset(hosts), token, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self._refuse(Request(scope))
        if refused is not None:
            await refused(scope, receive, _with_headers(send))
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body:
                raise _TooLargeError
            return message

        try:
            await self.app(scope, bounded, _with_headers(send))
        except _TooLargeError:
            await self._too_large()(scope, receive, _with_headers(send))

    def _refuse(self, request: Request) -> Response | None:
        headers = request.headers
        if _name(headers.get("host", "")) not in self.hosts:
            return _error(421, "this server answers under other names only: open the address that deepdft-view printed")
        origin = headers.get("origin")
        if origin is not None and _name(origin.split("://")[-1]) not in self.hosts:
            return _error(403, "requests of other web pages are refused")
        if self.token is not None and not _same(self._given(request, headers), self.token):
            return _error(403, "the token is missing: open the whole address that deepdft-view printed")
        if self.token is not None and "token" in request.query_params:
            answer = RedirectResponse(request.url.remove_query_params("token"))
            answer.set_cookie("deepdft_token", self.token, httponly=True, samesite="strict")
            return answer
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.max_body:
            return self._too_large()
        return None

    def _too_large(self) -> Response:
        return _error(413, f"the file is too large: at most {self.max_body // 2**20} MB are taken")

    @staticmethod
    def _given(request: Request, headers: Headers) -> str:
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        return request.query_params.get("token") or request.cookies.get("deepdft_token") or bearer


class _TooLargeError(Exception):
    """A body is larger than its header says, or has none."""


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


def _name(host: str) -> str:
    """The host name without its port."""
    return host.lower() if host.endswith("]") else host.lower().rsplit(":", 1)[0] if ":" in host else host.lower()


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return with_headers
