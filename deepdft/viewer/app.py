"""The web application: the JSON interface, the page, and the status of each refusal."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

import deepdft
from deepdft.inference.predictor import Predictor
from deepdft.viewer.limits import Limits
from deepdft.viewer.routes import Problem, router
from deepdft.viewer.security import Guard
from deepdft.viewer.service import MissingError, Service, UnfinishedError
from deepdft.viewer.work import BusyError

__all__ = ["create_app"]

STATIC = Path(__file__).parent / "static"
STATUS: dict[type[Exception], int] = {
    MissingError: 404,
    UnfinishedError: 409,
    BusyError: 429,
    ValueError: 400,
    OSError: 400,
    ModuleNotFoundError: 400,
}
"""Error → HTTP status; the text of the error goes to the visitor."""


def create_app(
    predictor: Predictor,
    *,
    model_name: str,
    hosts: Sequence[str],
    token: str | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """The web application.

    Args:
        predictor: the model.
        model_name: what the page calls it.
        hosts: names under which it is served; requests for others are refused.
        token: what visitors must know; None lets everyone in who reaches the server.
        limits: bounds on requests.
    """
    bounds = limits or Limits()
    service = Service(predictor, model_name, bounds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=service.reader.start, daemon=True).start()
        yield
        service.close()

    refusals: dict[int | str, dict[str, Any]] = {
        code: {"model": Problem} for code in (400, 403, 404, 409, 413, 421, 422, 429)
    }
    app = FastAPI(
        title="deepdft",
        version=deepdft.__version__,
        description="Electronic charge densities, predicted by a trained model. Lengths in Å, densities in e/Å³.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from the network
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=refusals,
    )
    app.state.service = service
    app.add_middleware(Guard, hosts=hosts, token=token, max_body=bounds.max_upload_bytes)
    for kind in STATUS:
        app.add_exception_handler(kind, _refuse)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.include_router(router)
    app.mount("/", StaticFiles(directory=STATIC, html=True), name="page")
    return app


def _refuse(_: Request, error: Exception) -> Response:
    status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
    return JSONResponse({"error": " ".join(str(error).split())}, status_code=status)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    message = str(first["msg"]).removeprefix("Value error, ")
    return JSONResponse({"error": f"{where}: {message}" if where else message}, status_code=422)
