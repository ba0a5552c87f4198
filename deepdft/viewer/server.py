"""Starts the page on this machine."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from deepdft.inference.predictor import Predictor
from deepdft.viewer.limits import Limits
from deepdft.viewer.security import LOOPBACK, is_loopback
from deepdft.viewer.sources import from_upload

if TYPE_CHECKING:
    from deepdft.viewer.service import Service

__all__ = ["serve"]


def serve(
    predictor: Predictor,
    *,
    model_name: str,
    host: str,
    port: int,
    limits: Limits | None = None,
    announce: Callable[[str], None] = print,
    structure: str = "",
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        predictor: the model.
        model_name: what the page calls it.
        host: address to listen on; other than loopback, visitors need the token in the address that is announced.
        port: 0 takes a free one.
        limits: bounds on requests.
        announce: called with the address once the server listens.
        structure: what is shown first: a file, a name or a SMILES.

    Raises:
        ValueError: if the port is taken, the host is no address of this machine, or the file cannot be read.
        ModuleNotFoundError: if the extra `view` is not installed.
    """
    try:
        import uvicorn

        from deepdft.viewer.app import create_app
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is missing: pip install 'deepdft-lightning[view]'") from error
    token = None if is_loopback(host) else secrets.token_urlsafe(16)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()
    hosts = {*LOOPBACK, host, f"[{host}]", shown.lower(), *_addresses(host)}
    if token is not None:
        print(
            f"warning: host={host}: other machines can reach the page; only who has the whole address gets in, and "
            "what is sent can be read on the network",
            file=sys.stderr,
        )
    app = create_app(predictor, model_name=model_name, hosts=sorted(hosts), token=token, limits=limits)
    name = f"[{shown}]" if ":" in shown else shown
    query = "" if token is None else f"?token={token}"
    announce(f"http://{name}:{port}/{query}{_fragment(structure, app.state.service)}")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[listening])


def _fragment(structure: str, service: Service) -> str:
    """What is shown first, as the page keeps it in its address; a file is kept like an upload."""
    if not structure:
        return ""
    path = Path(structure)
    if not path.is_file():
        if path.suffix and ("/" in structure or path.exists()):
            raise ValueError(f"structure={structure}: there is no such file")
        return f"#{urlencode({'structure': structure})}"
    source = from_upload(path.name, path.read_bytes(), service.limits)
    shown = {"upload": service.keep(source)} | ({"field": "difference"} if source.reference is not None else {})
    return f"#{urlencode(shown)}"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)  # who opens the address as soon as it is announced waits, and is not refused
    except OSError as error:
        raise ValueError(f"host={host} port={port}: {error.strerror or error}; give another port=") from error
    return listening


def _addresses(host: str) -> set[str]:
    """Addresses of this machine, where it listens on all of them."""
    if host not in ("0.0.0.0", "::"):
        return set()
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        return set()
