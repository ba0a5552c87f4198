"""The density store: what is written is read back, by any process, and damage is named."""

import json
import multiprocessing
import pickle
from pathlib import Path

import ase
import h5py
import numpy as np
import pytest

from deepdft import bundled, metrics
from deepdft.data import store as store_module
from deepdft.data.index import INDEX, checksum, write_index
from deepdft.data.records import read_record
from deepdft.data.splits import load_split
from deepdft.data.store import Store
from deepdft.data.writer import Compression, ShardWriter
from deepdft.density import DensityGrid, grid_points

LOSSLESS = ["none", "bitshuffle"]
ALL = [*LOSSLESS, "zfp"]


def random_density(rng: np.random.Generator) -> DensityGrid:
    n_atoms = int(rng.integers(1, 6))
    return DensityGrid(
        values=rng.random(rng.integers(3, 9, size=3)),
        atoms=ase.Atoms(
            numbers=rng.integers(1, 30, size=n_atoms),
            positions=rng.normal(size=(n_atoms, 3)),
            cell=rng.normal(size=(3, 3)),
            pbc=rng.integers(0, 2, size=3).astype(bool),
        ),
        origin=rng.normal(size=3),
    )


def make_store(
    folder: Path, *, compression: str = "none", labels: tuple[str, ...] = ("PBE",), counts: tuple[int, ...] = (3, 2)
) -> list[dict[str, DensityGrid]]:
    """Shards of given numbers of structures; returns their content."""
    rng = np.random.default_rng(0)
    written: list[dict[str, DensityGrid]] = []
    for number, count in enumerate(counts):
        with ShardWriter(folder, number, labels=labels, compression=Compression(compression)) as writer:
            for _ in range(count):
                first = random_density(rng)
                grids = {name: DensityGrid(rng.random(first.shape), first.atoms, first.origin) for name in labels}
                writer.add(f"s{len(written)}", grids)
                written.append(grids)
    records = [read_record(folder, number) for number in range(len(counts))]
    write_index(
        folder, records, labels=labels, compression=Compression(compression).as_dict(), provenance={"about": "test"}
    )
    return written


@pytest.mark.parametrize("compression", ALL)
def test_structures_come_back_as_they_were_written(tmp_path: Path, compression: str) -> None:
    written = make_store(tmp_path, compression=compression)
    store = Store(tmp_path)
    assert len(store) == 5
    assert store.names == ["s0", "s1", "s2", "s3", "s4"]
    for i, grids in enumerate(written):
        expected, found = grids["PBE"], store.density(i)
        tolerance = 1e-5 if compression == "zfp" else 0.0
        np.testing.assert_allclose(found.values, expected.values.astype(np.float32), rtol=0, atol=tolerance)
        assert found.atoms == expected.atoms
        np.testing.assert_array_equal(found.origin, expected.origin)
        assert store.formulas[i] == expected.atoms.get_chemical_formula()
        assert store.n_atoms[i] == len(expected.atoms)
        assert store.shape(i) == expected.shape == tuple(store.shapes[i])
        assert store.n_electrons[i] == pytest.approx(expected.n_electrons, abs=1e-6)


def test_elements_are_those_of_the_structures_asked_for(tmp_path: Path) -> None:
    make_store(tmp_path)
    store = Store(tmp_path)
    for positions in ([0], [1, 4], range(len(store))):
        assert store.elements(positions) == sorted({int(z) for i in positions for z in store.atoms(i).numbers})
    assert store.elements([]) == []


@pytest.mark.parametrize("compression", ALL)
def test_a_sample_is_the_density_at_the_positions_of_its_grid_points(tmp_path: Path, compression: str) -> None:
    written = make_store(tmp_path, compression=compression)
    store = Store(tmp_path)
    for i, grids in enumerate(written):
        grid = grids["PBE"]
        indices = np.random.default_rng(i).integers(grid.values.size, size=40)
        values = store.sample(i, indices)
        assert values.dtype == np.float32
        assert values.shape == (40, 1)
        values = values[:, 0]
        np.testing.assert_array_equal(values, store.values(i).ravel()[indices])
        points = grid_points(store.atoms(i).cell.array, store.shape(i), store.origin(i), indices)
        # by counting steps along the edges instead of flat indices
        corner = np.linalg.solve(grid.atoms.cell.array.T, (points - grid.origin).T).T
        steps = np.rint(corner * grid.shape).astype(int)
        np.testing.assert_allclose(values, grid.values[tuple(steps.T)], atol=1e-5)


@pytest.mark.parametrize("compression", LOSSLESS)
def test_an_ensemble_keeps_its_densities_apart(tmp_path: Path, compression: str) -> None:
    labels = ("PBE", "GGA_X_PW91+GGA_C_PW91")
    written = make_store(tmp_path, compression=compression, labels=labels)
    store = Store(tmp_path)
    assert store.labels == list(labels)
    for i, grids in enumerate(written):
        for label in labels:
            np.testing.assert_array_equal(store.values(i, label), grids[label].values.astype(np.float32))
            assert store.electrons(label)[i] == pytest.approx(grids[label].n_electrons, abs=1e-6)
        np.testing.assert_array_equal(store.values(i), store.values(i, "PBE"))
    with pytest.raises(ValueError, match=r"no density is labelled 'LDA'; expected one of PBE, GGA_X"):
        store.values(0, "LDA")


@pytest.mark.parametrize("compression", ALL)
def test_planes_are_parts_of_the_density(tmp_path: Path, compression: str) -> None:
    labels = ("PBE", "RPBE")
    make_store(tmp_path, compression=compression, labels=labels)
    store = Store(tmp_path)
    for i in range(len(store)):
        for label in labels:
            whole = store.values(i, label)
            for planes in (slice(0, 1), slice(1, 3), slice(2, 100), slice(None)):
                np.testing.assert_array_equal(store.planes(i, planes, label), whole[planes])
        np.testing.assert_array_equal(store.planes(i, slice(1, 3)), store.values(i, "PBE")[1:3])
    with pytest.raises(ValueError, match="no density is labelled 'LDA'"):
        store.planes(0, slice(0, 1), "LDA")


def read_all(store: Store) -> list[float]:
    return [float(store.values(i).sum(dtype=np.float64)) for i in range(len(store))]


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of fork beside threads of other tests
def test_processes_read_what_their_parent_reads(tmp_path: Path, compression: str, method: str) -> None:
    make_store(tmp_path, compression=compression)
    store = Store(tmp_path)
    expected = read_all(store)  # opens the files before the processes start
    with multiprocessing.get_context(method).Pool(2) as pool:
        for found in pool.map(read_all, [store] * 4, chunksize=1):
            assert found == expected
    assert read_all(store) == expected


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of fork beside threads of other tests
def test_a_forked_process_opens_the_files_again(tmp_path: Path, compression: str) -> None:
    make_store(tmp_path, compression=compression)
    store = Store(tmp_path)
    expected = read_all(store)
    opened = {shard: id(files) for shard, files in store._open.items()}
    assert list(opened) == [0, 1]
    context = multiprocessing.get_context("fork")
    inbox, outbox = context.Pipe(duplex=False)

    def child() -> None:  # inherits the store as it is; nothing is pickled
        inherited = store._open.copy()
        found = read_all(store)
        outbox.send((found, [shard for shard, files in store._open.items() if files is inherited[shard]]))

    process = context.Process(target=child)
    process.start()
    found, kept = inbox.recv() if inbox.poll(30) else (None, None)
    process.join()
    assert found == expected
    assert kept == []
    assert read_all(store) == expected
    assert {shard: id(files) for shard, files in store._open.items()} == opened


def test_what_travels_to_a_process_holds_no_data(tmp_path: Path) -> None:
    make_store(tmp_path)
    store = Store(tmp_path)
    before = len(pickle.dumps(store))
    read_all(store)
    assert len(pickle.dumps(store)) == before


def test_many_shards_are_not_all_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_OPEN_SHARDS", 2)
    written = make_store(tmp_path, compression="bitshuffle", counts=(1, 1, 1, 1))
    store = Store(tmp_path)
    for i in [0, 1, 2, 3, 0, 3, 1]:
        np.testing.assert_array_equal(store.values(i), written[i]["PBE"].values.astype(np.float32))
        assert len(store._open) <= 2


def test_values_may_be_changed_without_changing_the_store(tmp_path: Path) -> None:
    make_store(tmp_path)
    store = Store(tmp_path)
    expected = store.values(0).copy()
    store.values(0)[:] = -1
    store.origin(0)[:] = 9
    store.atoms(0).positions[:] = 9
    np.testing.assert_array_equal(store.values(0), expected)
    assert not np.any(store.origin(0) == 9)
    assert not np.any(store.atoms(0).positions == 9)


def test_the_fingerprint_tells_data_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make_store(tmp_path / folder)
    make_store(tmp_path / "c", counts=(3, 1))
    a, b, c = (Store(tmp_path / folder).fingerprint for folder in "abc")
    assert a == b != c


def test_an_index_outside_a_grid_or_the_store_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path)
    store = Store(tmp_path)
    n_points = int(store.shapes[1].prod())
    with pytest.raises(IndexError, match=f"s1: grid points are 0…{n_points - 1}, got 0…{n_points}"):
        store.sample(1, np.array([0, n_points]))
    with pytest.raises(IndexError, match="got -1"):
        store.sample(1, np.array([-1]))
    with pytest.raises(IndexError, match="structure 5 of 5"):
        store.atoms(5)
    with pytest.raises(ValueError, match="no structure is named 'x'; names are like 's0'"):
        store.index_of("x")


def test_a_folder_without_a_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no density store \(no index.json\); make one with deepdft-convert"):
        Store(tmp_path / "nothing")
    (tmp_path / ".conversion").mkdir()
    with pytest.raises(FileNotFoundError, match="an unfinished conversion"):
        Store(tmp_path)


def test_a_foreign_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"index.json: damaged: expected an object, got a list"):
        Store(tmp_path)
    (tmp_path / INDEX).write_text('{"format": "another"}')
    with pytest.raises(ValueError, match=r"index.json: not the index of a density store"):
        Store(tmp_path)
    (tmp_path / INDEX).write_text('{"format": "deepdft-density-store", "format_version": 99, "structures": {}}')
    with pytest.raises(ValueError, match=r"version 99, but this deepdft reads"):
        Store(tmp_path)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    make_store(tmp_path)
    shard = tmp_path / "shard-00001.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    store = Store(tmp_path)
    store.values(0)
    with pytest.raises(ValueError, match=r"shard-00001.h5: damaged: \d+ bytes, but index.json says \d+; copy"):
        store.values(3)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"shard-00001.h5: this shard of the store is missing"):
        store.values(3)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("compression", ALL)
def test_a_flipped_bit_in_a_density_is_refused_and_its_structure_named(tmp_path: Path, compression: str) -> None:
    make_store(tmp_path, compression=compression, labels=("PBE", "RPBE"))
    store = Store(tmp_path)
    store.verify()
    with h5py.File(tmp_path / "shard-00000.h5") as file:
        dataset = file["density/RPBE/total/000001"]
        first = dataset.id.get_offset() if compression == "none" else dataset.id.get_chunk_info(0).byte_offset
    flip(tmp_path / "shard-00000.h5", first + 20)
    damaged = Store(tmp_path)
    np.testing.assert_array_equal(damaged.values(1), store.values(1))
    for read in (damaged.values, damaged.density):
        with pytest.raises(ValueError, match=r"shard-00000.h5: damaged: .*; deepdft-convert verify=<store> lists"):
            read(1, "RPBE")
    with pytest.raises(ValueError, match=r"^/[^:]*: s1 in shard-00000.h5 is damaged; copy the store or convert"):
        damaged.verify()


def test_a_flipped_bit_in_the_table_of_a_shard_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path)
    with h5py.File(tmp_path / "shard-00000.h5") as file:
        places = {
            key: file[key].id.get_offset() for key in ("positions", "cells", "numbers", "names", "pbc", "origins")
        }
    for place in places.values():
        flip(tmp_path / "shard-00000.h5", place)
        with pytest.raises(ValueError, match=r"shard-00000.h5: damaged: "):
            Store(tmp_path).atoms(0)
        with pytest.raises(ValueError, match=r": shard-00000.h5 is damaged \(its sha256 differs"):
            Store(tmp_path).verify()
        flip(tmp_path / "shard-00000.h5", place)
    Store(tmp_path).verify()


def test_a_changed_index_is_refused_unless_only_its_provenance_is(tmp_path: Path) -> None:
    make_store(tmp_path)
    text = (tmp_path / INDEX).read_text()
    (tmp_path / INDEX).write_text(text.replace('"s3"', '"s7"'))
    with pytest.raises(ValueError, match=r"index.json: damaged: the checksum differs"):
        Store(tmp_path)
    (tmp_path / INDEX).write_text(text.replace('"about": "test"', '"about": "edited by hand"'))
    assert Store(tmp_path).names[3] == "s3"


@pytest.mark.parametrize("file", ["../../secret.h5", "/etc/passwd", "..", "", 5, None])
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, file: object) -> None:
    make_store(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    index["shards"][0]["file"] = file
    index["crc32"] = checksum(index)
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index.json: damaged: expected that a shard is a file in the folder"):
        Store(tmp_path)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
@pytest.mark.parametrize("key", ["positions", "density/PBE/total/000000"])
def test_arrays_that_lie_elsewhere_are_not_read(tmp_path: Path, kind: str, key: str) -> None:
    make_store(tmp_path, compression="bitshuffle", counts=(1,))
    shard, secret = tmp_path / "shard-00000.h5", tmp_path / "secret.h5"
    with h5py.File(shard, "r+") as file:
        array = file[key][()]
        del file[key]
        with h5py.File(secret, "w") as other:
            other["a"] = array
        if kind == "external link":
            file[key] = h5py.ExternalLink("secret.h5", "a")
        elif kind == "soft link":
            file[key] = h5py.SoftLink("/cells")
        elif kind == "external storage":
            (tmp_path / "raw").write_bytes(array.tobytes())
            storage = [(str(tmp_path / "raw"), 0, array.nbytes)]
            file.create_dataset(key, shape=array.shape, dtype=array.dtype, external=storage)
        else:
            layout = h5py.VirtualLayout(array.shape, array.dtype)
            layout[...] = h5py.VirtualSource(str(secret), "a", array.shape)
            file.create_virtual_dataset(key, layout)
    index = json.loads((tmp_path / INDEX).read_text())
    index["shards"][0]["bytes"] = shard.stat().st_size
    index["crc32"] = checksum(index)
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"shard-00000.h5: damaged: .*in the file itself"):
        Store(tmp_path).density(0)


@pytest.mark.parametrize("compression", ALL)
def test_a_failure_leaves_no_shard(tmp_path: Path, compression: str) -> None:
    def write() -> None:
        with ShardWriter(tmp_path, 0, compression=Compression(compression)) as writer:
            writer.add("a", random_density(np.random.default_rng(0)))
            writer.add("b", {"LDA": random_density(np.random.default_rng(1))})

    with pytest.raises(ValueError, match="densities labelled LDA; expected PBE"):
        write()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert read_record(tmp_path, 0) is None


def test_densities_of_one_structure_must_share_a_grid(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, other = random_density(rng), random_density(rng)
    with (
        pytest.raises(ValueError, match="a: its densities are on different grids"),
        ShardWriter(tmp_path, 0, labels=["x", "y"]) as writer,
    ):
        writer.add("a", {"x": first, "y": other})


def test_two_structures_of_one_name_are_refused(tmp_path: Path) -> None:
    density = random_density(np.random.default_rng(0))
    with ShardWriter(tmp_path, 0) as writer:
        writer.add("a", density)
        writer.add("a", density)
    with pytest.raises(ValueError, match="several structures are named a"):
        write_index(tmp_path, [read_record(tmp_path, 0)], labels=["PBE"], compression={"name": "none"}, provenance={})


def test_the_index_of_a_large_data_set_loads_fast(tmp_path: Path) -> None:
    import time

    make_store(tmp_path, counts=(1,))
    index = json.loads((tmp_path / INDEX).read_text())
    n = 134_000
    index["shards"][0]["n_structures"] = n
    columns = index["structures"]
    for key in ("formula", "n_atoms", "shape"):
        columns[key] = columns[key] * n
    columns["name"] = [f"{i:06d}" for i in range(n)]
    columns["integrals"]["PBE"]["total"] = [56.001234] * n
    index["crc32"] = checksum(index)
    (tmp_path / INDEX).write_text(json.dumps(index))
    began = time.process_time()
    assert len(Store(tmp_path)) == n
    assert time.process_time() - began < 2.0  # measured: 0.2 s


def test_the_bundled_data_are_whole() -> None:
    store = Store(bundled.path("qm9_demo"))
    store.verify()
    assert len(store) == 40
    valence = {1: 1, 6: 4, 7: 5, 8: 6}
    expected = [sum(valence[z] for z in store.atoms(i).numbers) for i in range(len(store))]
    np.testing.assert_allclose(store.n_electrons, expected, rtol=1e-3)
    stored = [store.density(i).n_electrons for i in range(len(store))]
    np.testing.assert_allclose(stored, store.n_electrons, rtol=1e-4)


def test_the_bundled_ensemble_has_the_papers_functionals_for_molecules_of_the_demos_test_split() -> None:
    store, demo = Store(bundled.path("qm9_demo_xc")), Store(bundled.path("qm9_demo"))
    store.verify()
    assert store.labels == ["PBE", "RPBE", "revPBE", "PW91", "PBEsol", "BEEF", "CA", "PZ"]
    held_out = [demo.names[i] for i in load_split(None, demo).test]
    assert set(store.names) <= set(held_out)
    for i, name in enumerate(store.names):
        same, other = store.values(i, label="PBE"), demo.values(demo.index_of(name))
        assert metrics.eps_mae(same, other) < 0.02  # both are compressed


def test_bundled_data_of_another_name_are_refused() -> None:
    with pytest.raises(FileNotFoundError, match=r"no such bundled data; expected one of qm9_demo"):
        bundled.path("qm10")
