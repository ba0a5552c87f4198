"""The JSON interface: what a script or the page asks for, and what is refused."""

import copy
import io
import os
import re

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

pytest.importorskip("fastapi", reason="needs the extra `view`")
pytest.importorskip("rdkit", reason="needs the extra `view`")
from fastapi.testclient import TestClient

import deepdft
from deepdft.density import DensityGrid
from deepdft.inference.predictor import Predictor
from deepdft.io.names import structure_by_name
from deepdft.models.ensemble import Ensemble
from deepdft.viewer.app import STATIC, create_app

HOST = "http://localhost:8050"


@pytest.fixture(scope="module")
def client(predictor, limits):
    app = create_app(predictor, model_name="test", hosts=["localhost"], limits=limits)
    with TestClient(app, base_url=HOST) as made:
        yield made


def finished(client, answer):
    assert answer.status_code == 202, answer.text
    for _ in range(60):
        status = client.get(f"/api/predictions/{answer.json()['id']}?wait=10").json()
        if status["state"] not in ("waiting", "running"):
            return status
    raise AssertionError("it does not end")


def predicted(client, **asked):
    status = finished(client, client.post("/api/predictions", json=asked))
    assert status["state"] == "done", status
    return status["id"], status["result"]


@pytest.fixture(scope="module")
def water(client):
    return predicted(client, structure="water", spacing=0.3)


def text_of(atoms, form):
    buffer = io.BytesIO() if form == "cif" else io.StringIO()
    ase.io.write(buffer, atoms, format=form)
    written = buffer.getvalue()
    return written if isinstance(written, bytes) else written.encode()


def test_info_tells_what_may_be_asked_for(client, limits):
    info = client.get("/api/info").json()
    assert {"water", "caffeine"} <= set(info["examples"])
    assert info["limits"]["max_atoms"] == limits.max_atoms
    assert "C" in info["elements"]


def test_a_prediction_is_that_of_python(client, water, predictor):
    identifier, result = water
    namespace = {}
    code = result["python"].replace(f'"{predictor.info.get("path", "bundled")}"', '"bundled"')
    exec(code, namespace)
    expected = namespace["density"]
    answer = client.get(f"/api/predictions/{identifier}/array")
    shape = tuple(map(int, answer.headers["X-Shape"].split(",")))
    np.testing.assert_array_equal(np.frombuffer(answer.content, "<f4").reshape(shape), expected.values)
    assert result["expected_electrons"] == 8
    assert result["n_electrons"] == pytest.approx(8, rel=0.03)  # 0.3 Å is coarse
    assert sum(result["charges"]) == pytest.approx(0, abs=0.1)
    assert 1 < result["dipole_debye"] < 2.5


@pytest.mark.parametrize("kind", ["cube", "chgcar", "h5"])
def test_a_download_reads_back(client, water, kind, tmp_path):
    identifier, result = water
    answer = client.get(f"/api/predictions/{identifier}/file?kind={kind}")
    name = answer.headers["Content-Disposition"].split('"')[1]
    (tmp_path / name).write_bytes(answer.content)
    density = deepdft.read_density(tmp_path / name)
    assert density.shape == tuple(result["shape"])
    assert density.n_electrons == pytest.approx(result["n_electrons"], rel=1e-4)


def test_surface_slice_and_scene_belong_together(client, water):
    identifier, _ = water
    answer = client.get(f"/api/predictions/{identifier}/surface?level=0.3&colour=deformation")
    n, m = int(answer.headers["X-Vertices"]), int(answer.headers["X-Faces"])
    assert len(answer.content) == 12 * n + 12 * n + 12 * m + 4 * n
    assert m > 100
    vertices = np.frombuffer(answer.content[: 12 * n], "<f4").reshape(n, 3)
    scene = client.get(f"/api/predictions/{identifier}/scene").json()
    assert scene["symbols"] == ["O", "H", "H"]
    distances = np.linalg.norm(vertices[:, None] - np.array(scene["positions"]), axis=-1).min(axis=1)
    assert 0.3 < distances.min() < distances.max() < 2.5
    cut = client.get(f"/api/predictions/{identifier}/slice?size=4&pixels=20")
    assert np.isfinite(np.frombuffer(cut.content, "<f4")).all()


def test_an_uploaded_density_is_compared_on_its_own_grid(client, predictor, tmp_path):
    atoms = molecule("NH3", vacuum=3.0)
    density = predictor.predict(atoms, shape=(20, 22, 24))
    off = DensityGrid(density.values * np.float32(1.02), density.atoms, density.origin)
    deepdft.write_density(tmp_path / "x.cube", off)
    answer = client.post("/api/uploads?name=x.cube", content=(tmp_path / "x.cube").read_bytes())
    assert answer.json()["has_density"]
    identifier, result = predicted(client, upload=answer.json()["id"])
    assert result["shape"] == [20, 22, 24]
    assert result["eps_mae"] == pytest.approx(100 * 0.02 / 1.02, rel=1e-3)
    found = np.frombuffer(client.get(f"/api/predictions/{identifier}/array?field=difference").content, "<f4")
    np.testing.assert_allclose(found, -0.02 * density.values.ravel(), atol=2e-5)


def test_molecules_are_laid_over_each_other_before_they_are_compared(client):
    stretched, turned = molecule("H2O"), molecule("H2O")
    stretched.positions[1] += [0, 0.15, -0.1]
    turned.rotate(70, (1, 2, 3))
    turned.translate([5, 0, 2])
    found, errors = {}, {}
    for name, atoms in (("same", molecule("H2O")), ("stretched", stretched), ("turned", turned)):
        upload = client.post("/api/uploads?name=x.xyz", content=text_of(atoms, "extxyz")).json()
        found[name], _ = predicted(client, upload=upload["id"], spacing=0.3)
    for name in ("stretched", "turned"):
        asked = {"first": found["same"], "second": found[name]}
        status = finished(client, client.post("/api/comparisons", json=asked))
        assert status["state"] == "done", status
        errors[name] = status["result"]["eps_mae"]
        assert status["result"]["labels"] == ["x.xyz", "x.xyz"]
    assert errors["turned"] < 0.1
    assert 2 < errors["stretched"] < 30
    scene = client.get(f"/api/predictions/{status['id']}/scene?which=second").json()
    np.testing.assert_allclose(scene["positions"], molecule("H2O").positions, atol=1e-3)


def test_a_density_of_elements_that_the_model_does_not_know_is_shown_itself(client, tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    values = np.random.default_rng(0).uniform(0, 1, (12, 12, 12)).astype(np.float32)
    deepdft.write_density(tmp_path / "x.cube", DensityGrid(values, atoms))
    answer = client.post("/api/uploads?name=x.cube", content=(tmp_path / "x.cube").read_bytes())
    identifier, result = predicted(client, upload=answer.json()["id"])
    assert not result["is_prediction"]
    assert "not trained on Na" in result["warnings"][0]
    assert "charges" not in result  # its electrons are not those of free atoms
    found = np.frombuffer(client.get(f"/api/predictions/{identifier}/array").content, "<f4")
    np.testing.assert_allclose(found, values.ravel(), rtol=1e-5)
    answer = client.post("/api/comparisons", json={"first": identifier, "second": identifier})
    assert (answer.status_code, "density of a file" in answer.json()["error"]) == (400, True)


def test_fields_are_those_of_the_predictor_where_there_is_density(client, predictor):
    identifier, result = predicted(client, structure="hydrogen", spacing=0.4, fields=["iri"])
    shape = tuple(result["shape"])
    values = {
        name: np.frombuffer(client.get(f"/api/predictions/{identifier}/array?field={name}").content, "<f4").reshape(
            shape
        )
        for name in ("density", "iri", "dori", "sign_lambda2_rho")
    }
    atoms = structure_by_name("hydrogen")
    density = predictor.predict(atoms, shape=shape)
    dense = density.values > 0.01
    expected = predictor.fields_at_points(atoms, ["iri", "dori", "hessian"], density.points()[dense.ravel()])
    np.testing.assert_allclose(values["iri"][dense], expected["iri"], rtol=1e-5)
    np.testing.assert_allclose(values["dori"][dense], expected["dori"], atol=1e-5)
    np.testing.assert_allclose(np.abs(values["sign_lambda2_rho"][dense]), density.values[dense], rtol=1e-5)
    np.testing.assert_array_equal(values["sign_lambda2_rho"][dense] < 0, expected["hessian"][:, 1] < 0)
    assert values["iri"][~dense].min() > 5
    assert set(values["dori"][~dense]) == {0}


def test_an_ensemble_shows_where_its_members_disagree(predictor, limits):
    other = copy.deepcopy(predictor.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    ensemble = Predictor(Ensemble([predictor.model, other], spread_scale=2.0))
    with TestClient(
        create_app(ensemble, model_name="two", hosts=["localhost"], limits=limits), base_url=HOST
    ) as client:
        identifier, result = predicted(client, structure="water", spacing=0.3)
        found = np.frombuffer(client.get(f"/api/predictions/{identifier}/array?field=spread").content, "<f4")
    atoms, shape = structure_by_name("water"), tuple(result["shape"])
    members = [Predictor(model).predict(atoms, shape=shape).values.ravel() for model in (predictor.model, other)]
    np.testing.assert_allclose(found, np.std(members, axis=0, ddof=1), atol=1e-5)
    assert result["trust"]["expected_eps_mae"] == pytest.approx(2 * result["trust"]["spread"])
    assert result["n_electrons"] == pytest.approx(np.mean(members) * np.size(found) * voxel(result), rel=1e-4)


def voxel(result):
    return abs(np.linalg.det(result["cell"])) / np.prod(result["shape"])


def test_a_surface_can_be_printed(client, water):
    identifier, _ = water
    query = f"/api/predictions/{identifier}/surface?level=0.3"
    mesh, printed = client.get(query), client.get(f"{query}&form=stl")
    n_faces = int(mesh.headers["X-Faces"])
    assert len(printed.content) == 84 + 50 * n_faces
    assert int.from_bytes(printed.content[80:84], "little") == n_faces
    first = np.frombuffer(printed.content[84:132], "<f4").reshape(4, 3)
    vertices = np.frombuffer(mesh.content[: 12 * int(mesh.headers["X-Vertices"])], "<f4").reshape(-1, 3)
    assert np.linalg.norm(vertices - first[1] / 10, axis=1).min() < 1e-5


@pytest.mark.parametrize(
    ("name", "form"),
    [("x.xyz", "extxyz"), ("x.cif", "cif"), ("POSCAR", "vasp"), ("x.pdb", "proteindatabank"), ("x.gen", "gen")],
)
def test_structure_files_are_read_by_their_name(client, name, form):
    atoms = molecule("CH4", vacuum=3.0, pbc=True)
    answer = client.post(f"/api/uploads?name={name}", content=text_of(atoms, form))
    assert (answer.status_code, answer.json().get("n_atoms")) == (201, 5), answer.text


REFUSED = {
    "not a name": ({"structure": "unobtainium oxide"}, 400, "names are known"),
    "empty": ({"structure": "  "}, 400, "type a name"),
    "unknown element": ({"structure": "[Au]"}, 400, "not trained on Au"),
    "too fine": ({"structure": "O", "spacing": 0.01}, 400, "spacing"),
    "not a number": ({"structure": "O", "spacing": "x"}, 422, "spacing"),
    "nothing": ({}, 422, "either structure or upload"),
    "both": ({"structure": "O", "upload": "a"}, 422, "either structure or upload"),
    "no such upload": ({"upload": "gone"}, 404, "upload it again"),
    "unknown key": ({"structure": "O", "model": "/etc/passwd"}, 422, "model"),
    "too many atoms": ({"structure": "C" * 22}, 400, "68 atoms; at most 60"),
    "too long a text": ({"structure": "C" * 300}, 400, "300 characters"),
    "two fragments": ({"structure": "O.O"}, 400, "O.O"),
}


@pytest.mark.parametrize(("asked", "status", "reported"), REFUSED.values(), ids=REFUSED)
def test_requests_that_make_no_sense_are_refused_in_a_sentence(client, asked, status, reported):
    answer = client.post("/api/predictions", json=asked)
    assert (answer.status_code, reported in answer.json()["error"]) == (status, True), answer.text


UPLOADS = {
    "pickle": ("x.pkl", b"cos\nsystem\n", "not read"),
    "python": ("x.py", b"print(1)", "not read"),
    "database": ("x.db", b"SQLite format 3\0", "not read"),
    "trajectory": ("x.traj", b"- of Ulm", "not read"),
    "damaged cube": ("x.cube", b"a\nb\n3 0 0 0\n", "x.cube: it cannot be read"),
    "damaged xyz": ("x.xyz", b"3\n\nO 0 0\n", "x.xyz: it cannot be read"),
    "empty": ("x.cif", b"", "x.cif: it cannot be read"),
    "binary": ("x.pdb", os.urandom(1000), "x.pdb"),
    "a path for a name": ("../../etc/passwd", b"root", "passwd: this kind of file"),
}


@pytest.mark.parametrize(("name", "content", "reported"), UPLOADS.values(), ids=UPLOADS)
def test_uploads_that_are_no_structures_are_refused_in_a_sentence(client, name, content, reported):
    answer = client.post("/api/uploads", params={"name": name}, content=content)
    assert (answer.status_code, reported in answer.json()["error"]) == (400, True), answer.text
    assert "/tmp" not in answer.text


def test_a_trajectory_that_calls_itself_xyz_is_not_opened_as_one(client, tmp_path):
    ase.io.write(tmp_path / "x.traj", molecule("H2O"))
    answer = client.post("/api/uploads?name=x.xyz", content=(tmp_path / "x.traj").read_bytes())
    assert answer.status_code == 400


def test_too_large_a_file_is_refused_with_and_without_its_length(client, limits):
    content = b"0" * (limits.max_upload_bytes + 1)
    assert client.post("/api/uploads?name=x.xyz", content=content).status_code == 413
    chunks = (content[i : i + 65536] for i in range(0, len(content), 65536))
    assert client.post("/api/uploads?name=x.xyz", content=chunks).status_code == 413


def test_a_crystal_the_model_does_not_know_is_refused(client):
    upload = client.post("/api/uploads?name=x.cif", content=text_of(bulk("NaCl", "rocksalt", a=5.64), "cif")).json()
    answer = client.post("/api/predictions", json={"upload": upload["id"]})
    assert (answer.status_code, "not trained on Na" in answer.json()["error"]) == (400, True)


def test_a_prediction_is_cancelled(client):
    answer = client.post("/api/predictions", json={"structure": "caffeine", "spacing": 0.3, "fields": ["dori"]})
    cancelled = client.delete(f"/api/predictions/{answer.json()['id']}")
    assert cancelled.status_code == 200
    assert finished(client, answer)["state"] == "cancelled"
    assert client.get(f"/api/predictions/{answer.json()['id']}/array").status_code == 409


def test_other_hosts_origins_and_visitors_without_the_token_are_refused(predictor, limits):
    app = create_app(predictor, model_name="test", hosts=["localhost"], token="sesame", limits=limits)
    with TestClient(app, base_url=HOST) as client:
        assert client.get("/api/info").status_code == 403
        assert client.get("/api/info", headers={"Authorization": "Bearer sesame"}).status_code == 200
        assert client.get("/api/info", headers={"Authorization": "Bearer Sesame"}).status_code == 403
        assert client.get("/?token=sesame").status_code == 200  # by way of a cookie
        assert client.get("/api/info").status_code == 200
        assert client.get("/api/info", headers={"Host": "evil.example:8050"}).status_code == 421
        assert client.get("/api/info", headers={"Origin": "https://evil.example"}).status_code == 403


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "http://" not in page.text
    assert "https://" not in page.text
    files = [path.relative_to(STATIC) for path in STATIC.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert {client.get(f"/{name.as_posix()}").status_code for name in files} == {200}
    for name in files:
        if name.suffix in (".js", ".css") and name.parts[0] != "vendor":
            text = (STATIC / name).read_text()
            assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
