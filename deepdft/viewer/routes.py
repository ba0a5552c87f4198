"""The JSON interface under /api; the page uses nothing else."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import numpy as np
from ase.data import chemical_symbols
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepdft.viewer import atoms, views
from deepdft.viewer.prediction import FILES, Prediction
from deepdft.viewer.service import Service
from deepdft.viewer.work import Job

__all__ = ["Problem", "router"]

router = APIRouter(prefix="/api")

FieldName = Literal["density", "deformation", "spread", "reference", "difference", "iri", "dori", "sign_lambda2_rho"]
Identifier = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{1,40}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PredictionRequest(_Strict):
    """The structure to predict: a name or SMILES, or an upload."""

    structure: str | None = Field(None, max_length=4000, description="a name of the list, or a SMILES")
    upload: str | None = Field(None, max_length=40, description="the id of an uploaded file")
    spacing: float = Field(0.2, gt=0, le=10, allow_inf_nan=False, description="Å between grid points")
    fields: list[Literal["iri", "dori"]] = Field(
        [], max_length=2, description="if not empty, IRI, DORI and sign(λ₂)ρ are computed beside the density"
    )

    @model_validator(mode="after")
    def _one(self) -> PredictionRequest:
        if (self.structure is None) == (self.upload is None):
            raise ValueError("give either structure or upload")
        return self


class ComparisonRequest(_Strict):
    """Two finished predictions: the second is the field reference, the first minus the second is difference."""

    first: str = Field(max_length=40)
    second: str = Field(max_length=40)


class Status(BaseModel):
    """The progress of a prediction."""

    id: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    progress: float = Field(description="0 to 1")
    ahead: int = Field(description="predictions that come before it")
    error: str = ""
    result: dict[str, Any] | None = Field(None, description="what is known of the density, once it is done")


class Problem(BaseModel):
    """Why a request was refused, in one sentence."""

    error: str


class Cells(_Strict):
    """Number of cells to draw along periodic axes."""

    a: int = Field(1, ge=1, le=3)
    b: int = Field(1, ge=1, le=3)
    c: int = Field(1, ge=1, le=3)

    @property
    def repeats(self) -> tuple[int, int, int]:
        """Cells along the three axes."""
        return self.a, self.b, self.c


class SurfaceRequest(Cells):
    """A surface, and the field that colours it."""

    level: float = Field(ge=-1e6, le=1e6, allow_inf_nan=False, description="value of the field on the surface")
    field: FieldName = "density"
    colour: FieldName | None = None
    form: Literal["binary", "stl"] = Field("binary", description="stl: a file for 3D printing, 1 Å as 10 mm")


class SceneRequest(Cells):
    """The atoms of the structure, or of the one it is compared with."""

    which: Literal["first", "second"] = "first"


class SliceRequest(Cells):
    """A square on a plane through the middle of the atoms."""

    field: FieldName = "density"
    tilt: float = Field(0, ge=-360, le=360, description="degrees between the normal and z")
    turn: float = Field(0, ge=-360, le=360, description="degrees by which the normal is turned about z")
    offset: float = Field(0, ge=-1000, le=1000, description="Å along the normal")
    size: float = Field(10, gt=0, le=200, description="Å, side of the square")
    pixels: int = Field(160, ge=8, le=400)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(_service)]


def _status(service: Service, job: Job[Prediction], *, whole: bool = False) -> Status:
    result = job.result.summary if whole and job.result is not None else None
    ahead = service.jobs.ahead(job)
    return Status(id=job.id, state=job.state, progress=job.progress, ahead=ahead, error=job.error, result=result)


def _binary(content: bytes, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(content, media_type="application/octet-stream", headers=named)


@router.get("/info")
def info(service: Here) -> dict[str, Any]:
    """Version, model, what may be asked for, and the names of the list."""
    return service.info()


@router.post("/uploads", status_code=201)
async def upload(
    service: Here,
    request: Request,
    name: Annotated[str, Query(min_length=1, max_length=200, description="name of the file")],
) -> dict[str, Any]:
    """Read a structure, or a density, from the body of the request; the name chooses how it is read."""
    async with service.receiving:  # bodies lie in memory
        return await run_in_threadpool(service.upload, name, await request.body())


@router.post("/predictions", status_code=202)
def start(service: Here, asked: PredictionRequest) -> Status:
    """Put a prediction into the queue."""
    return _status(service, service.start(**dict(asked)))


@router.post("/comparisons", status_code=202)
def compare(service: Here, asked: ComparisonRequest) -> Status:
    """Put the comparison of two predictions into the queue: molecules laid over each other, on a grid round both."""
    return _status(service, service.compare(asked.first, asked.second))


@router.get("/predictions/{identifier}")
async def state(
    service: Here,
    identifier: Identifier,
    wait: Annotated[float, Query(ge=0, le=30, description="s to wait for news")] = 0,
) -> Status:
    """How far a prediction is, and what is known of the density once it is done."""
    job = service.job(identifier)
    clock = asyncio.get_running_loop().time
    deadline, before = clock() + wait, (job.state, job.progress)
    while not job.finished.is_set() and clock() < deadline:
        await asyncio.sleep(0.02)
        if job.state != before[0] or job.progress > before[1] + 0.1:
            break
    return await run_in_threadpool(_status, service, job, whole=True)


@router.delete("/predictions/{identifier}")
def cancel(service: Here, identifier: Identifier) -> Status:
    """End a prediction."""
    job = service.job(identifier)
    service.jobs.cancel(job)
    return _status(service, job)


@router.get("/predictions/{identifier}/array", response_class=Response)
def array(service: Here, identifier: Identifier, field: FieldName = "density") -> Response:
    """A field as little-endian float32, z fastest; the header X-Shape holds its shape."""
    _, values = service.values(identifier, field)
    return _binary(np.ascontiguousarray(values, dtype="<f4").tobytes(), X_Shape=",".join(map(str, values.shape)))


@router.get("/predictions/{identifier}/file", response_class=Response)
def file(
    service: Here, identifier: Identifier, kind: Literal["cube", "chgcar", "h5"], field: FieldName = "density"
) -> Response:
    """A field as a cube, a CHGCAR or an HDF5 file."""
    prediction, _ = service.values(identifier, field)
    name = FILES[kind].replace("density", field)
    return _binary(prediction.file(kind, field), Content_Disposition=f'attachment; filename="{name}"')


@router.get("/predictions/{identifier}/scene")
def scene(service: Here, identifier: Identifier, asked: Annotated[SceneRequest, Query()]) -> dict[str, Any]:
    """The atoms to draw, with those on opposite faces of a repeating cell, bonds, edges of the cells, and a view."""
    prediction = service.prediction(identifier)
    grid = prediction.density.grid
    if asked.which == "second" and prediction.second is not None:
        grid = prediction.on_grid(prediction.second.atoms)
    which, positions = atoms.atoms_shown(grid, asked.repeats)
    numbers = grid.atoms.numbers[which]
    towards = atoms.orientation(positions, periodic=bool(grid.atoms.pbc.any()))
    return {
        "symbols": [chemical_symbols[number] for number in numbers],
        "atoms": which.tolist(),
        "positions": positions.round(5).tolist(),
        "bonds": atoms.bonds(numbers, positions).tolist(),
        "edges": atoms.cell_edges(grid, asked.repeats).round(5).tolist(),
        "orientation": towards.round(6).tolist(),
    }


@router.get("/predictions/{identifier}/surface", response_class=Response)
def surface(service: Here, identifier: Identifier, asked: Annotated[SurfaceRequest, Query()]) -> Response:
    """Where a field has a value: float32 vertices, float32 normals, uint32 faces, float32 values of the colour field.

    The headers X-Vertices and X-Faces hold the numbers of both.
    """
    prediction, values = service.values(identifier, asked.field)
    grid = prediction.density.grid
    mesh = views.isosurface(values, grid, asked.level, asked.repeats)
    if asked.form == "stl":
        name = f'attachment; filename="{asked.field}.stl"'
        return _binary(views.stl(mesh), Content_Disposition=name)
    parts = [mesh.vertices.tobytes(), mesh.normals.tobytes(), mesh.faces.tobytes()]
    if asked.colour is not None:
        _, colours = service.values(identifier, asked.colour)
        parts.append(np.nan_to_num(views.sample(colours, grid, mesh.vertices)).astype("<f4").tobytes())
    return _binary(b"".join(parts), X_Vertices=str(len(mesh.vertices)), X_Faces=str(len(mesh.faces)))


@router.get("/predictions/{identifier}/slice", response_class=Response)
def cut(service: Here, identifier: Identifier, asked: Annotated[SliceRequest, Query()]) -> Response:
    """Values on a plane, little-endian float32 row by row, NaN outside; headers hold its axes and centre in Å."""
    prediction, values = service.values(identifier, asked.field)
    grid = prediction.density.grid
    middle = atoms.atoms_shown(grid, asked.repeats)[1].mean(axis=0)
    plane = views.slice_plane(
        middle, tilt=asked.tilt, turn=asked.turn, offset=asked.offset, size=asked.size, pixels=asked.pixels
    )
    found = views.sample(values, grid, plane.points).astype("<f4")
    right, up, centre = (",".join(f"{x:.6f}" for x in vector) for vector in (plane.right, plane.up, plane.centre))
    return _binary(found.tobytes(), X_Right=right, X_Up=up, X_Centre=centre)
