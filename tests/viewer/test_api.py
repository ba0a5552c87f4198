"""The JSON interface: what a script or the page asks for, and what is refused."""

import io
import os

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

pytest.importorskip("fastapi", reason="needs the extra `view`")
pytest.importorskip("rdkit", reason="needs the extra `view`")
from fastapi.testclient import TestClient

import deepdft
from deepdft.density import DensityGrid
from deepdft.viewer.app import create_app

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


def test_two_predictions_are_compared_on_the_grid_of_the_first(client):
    positions = {"a": molecule("H2O"), "b": molecule("H2O")}
    positions["b"].positions[1] += [0.1, 0, 0]
    found = {}
    for name, atoms in positions.items():
        upload = client.post("/api/uploads?name=x.xyz", content=text_of(atoms, "extxyz")).json()
        found[name], _ = predicted(client, upload=upload["id"], spacing=0.3)
    status = finished(client, client.post("/api/comparisons", json={"first": found["a"], "second": found["b"]}))
    assert status["state"] == "done", status
    assert 0.5 < status["result"]["eps_mae"] < 30


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


@pytest.mark.parametrize(("asked", "status", "said"), REFUSED.values(), ids=REFUSED)
def test_requests_that_make_no_sense_are_refused_in_a_sentence(client, asked, status, said):
    answer = client.post("/api/predictions", json=asked)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text


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


@pytest.mark.parametrize(("name", "content", "said"), UPLOADS.values(), ids=UPLOADS)
def test_uploads_that_are_no_structures_are_refused_in_a_sentence(client, name, content, said):
    answer = client.post("/api/uploads", params={"name": name}, content=content)
    assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text
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
    loaded = [
        "page.js",
        "api.js",
        "scene.js",
        "colour.js",
        "style.css",
        "vendor/3Dmol-min.js",
        "vendor/3Dmol-LICENSE.txt",
    ]
    assert {client.get(f"/{name}").status_code for name in loaded} == {200}
