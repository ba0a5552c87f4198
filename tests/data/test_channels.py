"""Channels and per-atom arrays are kept from file to batch, and missing ones are reported by name."""

from pathlib import Path

import ase
import numpy as np
import pytest

import deepdft
from deepdft.data.convert import convert
from deepdft.data.datamodule import DensityDataModule
from deepdft.data.index import write_index
from deepdft.data.kind import DensityKind
from deepdft.data.records import read_record
from deepdft.data.store import Store
from deepdft.data.summary import store_lines
from deepdft.data.writer import Compression, ShardWriter
from deepdft.density import DensityGrid
from deepdft.errors import InputWarning

LABELS = ("PBE", "RPBE")


def density(seed: int, *, spin: bool, symbols: str = "OH2") -> DensityGrid:
    """Random values; with spin, a channel "difference" and occupancies of which the hydrogens have fewer."""
    rng = np.random.default_rng(seed)
    atoms = ase.Atoms(symbols, positions=rng.random((len(ase.Atoms(symbols)), 3)), cell=[4, 5, 6], pbc=True)
    values = rng.random((4, 5, 6)).astype(np.float32)
    if not spin:
        return DensityGrid(values, atoms)
    occupancies = rng.random((len(atoms), 3 + seed))
    occupancies[1:, 2:] = np.nan
    channels = {"difference": rng.normal(size=values.shape).astype(np.float32)}
    return DensityGrid(values, atoms, channels=channels, atom_arrays={"occupancies": occupancies})


def make_store(root: Path, written: list[dict[str, DensityGrid]], compression: str = "none") -> Store:
    """A store of two shards, so that a channel may be missing in a whole shard."""
    half = len(written) // 2
    for number, part in enumerate((written[:half], written[half:])):
        with ShardWriter(root, number, labels=LABELS, compression=Compression(compression)) as writer:
            for offset, grids in enumerate(part):
                writer.add(f"s{number * half + offset}", grids)
    records = [record for number in range(2) if (record := read_record(root, number))]
    write_index(root, records, labels=LABELS, compression=Compression(compression).as_dict(), provenance={})
    return Store(root)


@pytest.fixture(params=["none", "bitshuffle", "zfp"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, list[dict[str, DensityGrid]]]:
    written = [{label: density(10 * i + j, spin=i in (1, 2)) for j, label in enumerate(LABELS)} for i in range(4)]
    for grids in written:  # the densities of a structure share their atoms
        first = grids["PBE"]
        grids["RPBE"] = DensityGrid(
            grids["RPBE"].values, first.atoms, channels=grids["RPBE"].channels, atom_arrays=grids["RPBE"].atom_arrays
        )
    return make_store(tmp_path / "store", written, request.param), written


def test_channels_and_atom_arrays_come_back_as_they_were_written(
    stored: tuple[Store, list[dict[str, DensityGrid]]],
) -> None:
    store, written = stored
    tolerance = 1e-5 if store.index["compression"]["name"] == "zfp" else 0.0
    assert store.channels == ("total", "difference")
    store.verify()
    for i, grids in enumerate(written):
        for label, expected in grids.items():
            found = store.density(i, label)
            assert found.channel_names == expected.channel_names == store.channels_of(i, label)
            for name in expected.channel_names:
                np.testing.assert_allclose(found.channel(name), expected.channel(name), rtol=0, atol=tolerance)
                np.testing.assert_array_equal(store.values(i, label, channel=name), found.channel(name))
            assert found.atom_arrays.keys() == expected.atom_arrays.keys()
            for name, array in expected.atom_arrays.items():
                np.testing.assert_array_equal(found.atom_arrays[name], array)
            assert store.density(i, label, channels=["total"]).channels == {}


def test_points_have_a_column_for_each_channel(stored: tuple[Store, list[dict[str, DensityGrid]]]) -> None:
    store, _ = stored
    indices = np.array([5, 0, 119, 5])
    found = store.sample(1, indices, "RPBE", channels=["difference", "total"])
    expected = [store.values(1, "RPBE", channel=name).ravel()[indices] for name in ("difference", "total")]
    np.testing.assert_array_equal(found, np.stack(expected, axis=1))
    assert store.sample(0, indices).shape == (4, 1)


def test_integrals_are_those_of_the_channels(stored: tuple[Store, list[dict[str, DensityGrid]]]) -> None:
    store, written = stored
    moments = store.integrals("difference", "RPBE")
    assert np.isnan(moments[[0, 3]]).all()
    for i in (1, 2):
        expected = float(written[i]["RPBE"].channels["difference"].astype(np.float64).sum())
        assert moments[i] == pytest.approx(expected, abs=1e-5)  # cells of 1 Å³ a point
    assert np.isnan(store.integrals("magnetization_x")).all()


def test_a_channel_that_data_lack_is_one_clear_line(stored: tuple[Store, list[dict[str, DensityGrid]]]) -> None:
    store, _ = stored
    message = r"^channel difference: 2 of 4 structures of \S+ have no such channel, e\.g\. s0; the store has"
    with pytest.raises(ValueError, match=message):
        store.require_channels(["total", "difference"])
    store.require_channels(["difference"], [1, 2])
    with pytest.raises(ValueError, match=r"channel difference: 1 of 1 structures"):
        store.sample(0, np.array([0]), channels=["difference"])
    with pytest.raises(ValueError, match=r"channel spin: 1 of 1 structures"):
        store.values(1, channel="spin")
    module = DensityDataModule(store.root, split={"validation": 1}, channels=["total", "difference"])
    with pytest.raises(ValueError, match=r"channel difference: 2 of 4 structures"):
        module.setup()


def test_batches_have_the_channels_asked_for(tmp_path: Path) -> None:
    written = [{label: density(i, spin=True) for label in LABELS} for i in range(4)]
    store = make_store(tmp_path / "store", written)
    module = DensityDataModule(
        store.root,
        split={"validation": 1},
        channels=["total", "difference"],
        probes_per_structure=7,
        importance_fraction=0.5,
        num_workers=0,
    )
    module.setup()
    (batch,) = module.first_steps(1)
    assert batch.targets.shape == (14, 2)
    assert batch.weights is not None
    assert batch.weights.shape == (14,)
    (validation,) = module.val_dataloader()
    expected = store.density(module.split.validation[0])
    np.testing.assert_array_equal(validation.targets[:, 0].numpy(), expected.values.ravel())
    np.testing.assert_array_equal(validation.targets[:, 1].numpy(), expected.channels["difference"].ravel())


def spin_chgcar(seed: int) -> tuple[str, np.ndarray, np.ndarray]:
    """A spin-polarised CHGCAR of H2 in 4 × 4 × 4 Å³, and its total and difference in e/Å³."""
    rng = np.random.default_rng(seed)
    total, difference = rng.random((3, 4, 5)) / 100, rng.normal(size=(3, 4, 5)) / 100
    blocks = ["\n".join(f"{value * 64:.11E}" for value in a.ravel(order="F")) for a in (total, difference)]
    header = "H2\n1.0\n4 0 0\n0 4 0\n0 0 4\nH\n2\nDirect\n0 0 0\n0.2 0 0\n\n"
    return header + f"3 4 5\n{blocks[0]}\n3 4 5\n{blocks[1]}\n", total, difference


def test_conversion_keeps_spin_channels_and_says_so(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    text, total, difference = spin_chgcar(0)
    (source / "0.CHGCAR").write_text(text)
    (source / "1.CHGCAR").write_text(text.split("\n3 4 5\n")[0] + "\n3 4 5\n" + text.split("\n3 4 5\n")[1] + "\n")
    store = convert(source, tmp_path / "store", kind={"description": "PBE", "code": "VASP"})
    found = store.density(0)
    np.testing.assert_allclose(found.values, total, rtol=1e-6)
    np.testing.assert_allclose(found.channels["difference"], difference, rtol=1e-6)
    assert "kept: channels total, difference (of 1 of 2)" in store_lines(store)
    assert store.kind == DensityKind("PBE", "VASP")
    again = convert(store.root, tmp_path / "again", compression="bitshuffle")
    np.testing.assert_array_equal(again.values(0, channel="difference"), found.channels["difference"])
    assert again.kind == store.kind
    alone = convert(source, tmp_path / "alone", channels=[])
    assert alone.channels == ("total",)
    assert "kept: channel total; dropped: channel difference (of 1 of 2)" in store_lines(alone)


def test_kinds_that_differ_are_not_joined(tmp_path: Path) -> None:
    (tmp_path / "0.CHGCAR").write_text(spin_chgcar(0)[0])
    (tmp_path / "1.CHGCAR").write_text(spin_chgcar(1)[0])
    stores = [
        convert(tmp_path / f"{i}.CHGCAR", tmp_path / f"store-{i}", kind={"pseudopotentials": {"H": md5}}).root
        for i, md5 in enumerate("ab")
    ]
    with pytest.raises(ValueError, match=r"store-0 and .*store-1 cannot be joined, their densities differ: .*'H': 'a'"):
        convert(stores, tmp_path / "both")
    with pytest.raises(ValueError, match=r"kind .*: expected the entries description, code"):
        convert(tmp_path / "0.CHGCAR", tmp_path / "other", kind={"paw": "5.4"})


def test_elements_that_only_validation_or_test_have_are_reported(tmp_path: Path) -> None:
    symbols = ["OH2", "OH2", "NH3", "ArH"]
    written = [{label: density(i, spin=False, symbols=s) for label in LABELS} for i, s in enumerate(symbols)]
    root = make_store(tmp_path / "store", written).root
    (root / "split.json").write_text('{"train": ["s0"], "validation": ["s1", "s2"], "test": ["s3"]}')
    with pytest.warns(InputWarning) as warned:
        DensityDataModule(root).setup()
    texts = [str(warning.message) for warning in warned]
    assert len(texts) == 2
    assert "N in 1 of 2 validation structures (e.g. s2) and in no training structure" in texts[0]
    assert "Ar in 1 of 1 test structures (e.g. s3)" in texts[1]


def test_the_public_names_are_exported() -> None:
    assert deepdft.Store is Store
    assert deepdft.convert is convert
