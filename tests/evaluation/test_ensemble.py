"""ε_mad of ensembles from stores and from files, against medians sorted by hand; what differs is refused."""

import csv
import json

import ase
import numpy as np
import pytest

import deepdft
from deepdft import chunks
from deepdft.data.index import write_index
from deepdft.data.store import DensityStore
from deepdft.data.writer import Compression, ShardWriter
from deepdft.density import DensityGrid
from deepdft.evaluation.ensemble import (
    StructureSpread,
    deviation_at,
    reference_label,
    structure_spread,
    write_csv,
)
from deepdft.evaluation.ensemble_sources import FileEnsemble, StoreEnsemble, open_densities
from deepdft.evaluation.ensemble_structure import EnsembleStructure
from deepdft.evaluation.errors import StructureErrors
from deepdft.metrics import eps_mad

CELL = np.array([[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.5, -1.0, 6.0]])
LABELS = ("PBE", "RPBE", "LDA", "GGA_X_PW91+GGA_C_PW91")


def make_densities(seed=0, shape=(7, 8, 9), labels=LABELS, atoms="CHOH"):
    """Random densities of one structure on one oblique grid; some values are negative, as DFT's are."""
    generator = np.random.default_rng(seed)
    structure = ase.Atoms(atoms, positions=generator.uniform(0, 3, (len(ase.Atoms(atoms)), 3)), cell=CELL, pbc=True)
    first = generator.gamma(0.5, 0.5, shape) - 0.01
    return {
        label: DensityGrid((first * generator.normal(1.0, 0.05, shape)).astype(np.float32), structure)
        for label in labels
    }


def as_structure(densities, name="s"):
    first = next(iter(densities.values()))
    planes = {label: density.values.__getitem__ for label, density in densities.items()}
    return EnsembleStructure(name, first.atoms, first.origin, first.shape, planes)


def by_hand(densities, reference):
    """Eq. 8 with loops: numerator and denominator in electrons, and each density's part of the numerator."""
    values = [density.values.astype(float).ravel().tolist() for density in densities.values()]
    norm = sum(abs(x) for x in densities[reference].values.astype(float).ravel())
    parts = [0.0] * len(values)
    for point in zip(*values, strict=True):
        ordered, half = sorted(point), len(point) // 2
        median = ordered[half] if len(point) % 2 else (ordered[half - 1] + ordered[half]) / 2
        for k, value in enumerate(point):
            parts[k] += abs(value - median)
    voxel = 120.0 / len(values[0])  # 4 × 5 × 6 Å³
    return sum(parts) / len(parts) * voxel, norm * voxel, [100 * part / norm for part in parts]


def write_store(root, structures, labels=LABELS, **options):
    """A store of structures, name → densities."""
    root.mkdir()
    with ShardWriter(root, 0, labels=labels, **options) as shard:
        for name, densities in structures.items():
            shard.add(name, densities)
    write_index(root, [shard.record], labels=labels, compression={"name": "none"}, provenance={})
    return DensityStore(root)


def spreads(ensemble, positions, *, reference):
    return [structure_spread(ensemble.structure(i), reference, index=i) for i in positions]


@pytest.fixture
def structures():
    return {f"s{i}": make_densities(i, shape=(5 + i, 7, 8), atoms=["CHOH", "NH3", "C2H2"][i]) for i in range(3)}


@pytest.mark.parametrize("n_densities", [2, 3, 4])
@pytest.mark.parametrize("reference", ["PBE", "RPBE"])
def test_the_spread_is_the_sum_written_out_point_by_point(n_densities, reference):
    densities = make_densities(labels=LABELS[:n_densities])
    numerator, denominator, deviations = by_hand(densities, reference)
    spread = structure_spread(as_structure(densities, "CH2O"), reference, index=3)
    assert spread.eps_mad == pytest.approx(100 * numerator / denominator, rel=1e-12)
    assert spread.terms[0] == pytest.approx(numerator, rel=1e-12)
    assert spread.terms[1] == pytest.approx(denominator, rel=1e-12)
    assert list(spread.deviations) == list(densities)
    assert list(spread.deviations.values()) == pytest.approx(deviations, rel=1e-12)
    electrons = [density.n_electrons for density in densities.values()]
    assert spread.n_electrons == pytest.approx(densities[reference].n_electrons, rel=1e-12)
    assert spread.electron_spread == pytest.approx(max(electrons) - min(electrons), rel=1e-9)
    assert (spread.index, spread.name, spread.formula) == (3, "CH2O", "CH2O")
    assert (spread.n_atoms, spread.n_points) == (4, 504)


@pytest.mark.parametrize("points", [1, 72, 200, 10**9])
def test_the_spread_does_not_depend_on_how_many_planes_are_read_at_once(monkeypatch, points):
    monkeypatch.setattr(chunks.CPU, "points_accumulated", points)
    densities, read = make_densities(), []
    structure = as_structure(densities)
    structure.planes["PBE"] = lambda planes: read.append(densities["PBE"].values[planes]) or read[-1]
    spread = structure_spread(structure, "PBE")
    whole = eps_mad(np.stack([density.values for density in densities.values()]))
    assert spread.eps_mad == pytest.approx(whole, rel=1e-12)
    assert max(part.size for part in read) <= max(points, 72)
    np.testing.assert_array_equal(np.concatenate(read), densities["PBE"].values)


@pytest.mark.parametrize("points", [1, 200, 10**9])
def test_the_deviation_at_some_points_is_that_of_all(monkeypatch, points):
    monkeypatch.setattr(chunks.CPU, "points_accumulated", points)
    densities = make_densities()
    values = np.stack([density.values.ravel().astype(float) for density in densities.values()])
    everywhere = np.abs(values - np.median(values, axis=0)).mean(axis=0)
    indices = np.random.default_rng(0).integers(0, 504, 100)
    np.testing.assert_allclose(deviation_at(as_structure(densities), indices), everywhere[indices], rtol=1e-12)


def test_equal_densities_have_no_spread_and_deviations_have_the_spread_as_mean():
    density = make_densities()["PBE"]
    assert structure_spread(as_structure({"PBE": density, "LDA": density}), "PBE").eps_mad == 0.0
    spread = structure_spread(as_structure(make_densities()), "LDA")
    assert np.mean(list(spread.deviations.values())) == pytest.approx(spread.eps_mad, rel=1e-12)


def test_a_density_that_is_not_finite_or_zero_is_named():
    densities = make_densities()
    densities["LDA"].values[2, 3, 4] = np.nan
    with pytest.raises(ValueError, match="water: the density of LDA is not finite everywhere"):
        structure_spread(as_structure(densities, "water"), "PBE")
    densities = make_densities()
    densities["PBE"].values[:] = 0
    with pytest.raises(ValueError, match="water: the density of PBE is zero everywhere"):
        structure_spread(as_structure(densities, "water"), "PBE")


@pytest.mark.parametrize("compression", ["none", "bitshuffle"])
def test_the_densities_of_a_store(tmp_path, structures, compression):
    store = write_store(tmp_path / "store", structures, compression=Compression(compression))
    ensemble = StoreEnsemble.of_store(store)
    assert (ensemble.labels, ensemble.names, ensemble.incomplete) == (list(LABELS), ["s0", "s1", "s2"], [])
    rows = list(spreads(ensemble, [2, 0], reference="RPBE"))
    assert [(row.index, row.name, row.formula) for row in rows] == [(2, "s2", "C2H2"), (0, "s0", "CH2O")]
    for row in rows:
        values = np.stack([density.values for density in structures[row.name].values()])
        assert row.eps_mad == pytest.approx(eps_mad(values, reference=1), rel=1e-9)
    np.testing.assert_array_equal(ensemble.density(1, "LDA").values, structures["s1"]["LDA"].values)
    np.testing.assert_array_equal(ensemble.density(1).values, structures["s1"]["PBE"].values)


def test_stores_are_matched_by_the_names_of_their_structures(tmp_path, structures):
    """Each was converted on its own: other orders, a structure missing, labels as they happened to be."""
    pbe = {name: {"PBE": structures[name]["PBE"]} for name in ("s0", "s1", "s2")}
    rpbe = {name: {"PBE": structures[name]["RPBE"]} for name in ("s2", "s0")}
    write_store(tmp_path / "pbe", pbe, ["PBE"])
    write_store(tmp_path / "rpbe", rpbe, ["PBE"])
    ensemble = open_densities([f"PBE={tmp_path}/pbe", f"RPBE={tmp_path}/rpbe"])
    assert (ensemble.labels, ensemble.names, ensemble.incomplete) == (["PBE", "RPBE"], ["s0", "s2"], ["s1"])
    rows = list(spreads(ensemble, [0, 1], reference="PBE"))
    for row in rows:
        two = [structures[row.name][label].values for label in ("PBE", "RPBE")]
        assert row.eps_mad == pytest.approx(eps_mad(np.stack(two)), rel=1e-9)
    np.testing.assert_array_equal(ensemble.density(1, "RPBE").values, structures["s2"]["RPBE"].values)


def test_some_densities_of_a_store_are_chosen_by_label(tmp_path, structures):
    write_store(tmp_path / "all", structures)
    ensemble = open_densities([f"LDA={tmp_path}/all", f"PBE={tmp_path}/all"])
    (row, *_) = spreads(ensemble, [1], reference="PBE")
    two = [structures["s1"][label].values for label in ("LDA", "PBE")]
    assert row.eps_mad == pytest.approx(eps_mad(np.stack(two), reference=1), rel=1e-9)
    with pytest.raises(ValueError, match=r"all has no density labelled revPBE; expected one of PBE, RPBE, LDA"):
        open_densities([f"PBE={tmp_path}/all", f"revPBE={tmp_path}/all"])


@pytest.mark.parametrize("suffix", ["cube", "CHGCAR", "CHGCAR.gz", "h5"])
def test_the_densities_of_files(tmp_path, suffix):
    densities = make_densities(shape=(10, 11, 12), atoms="CO")
    specs = []
    for label, density in densities.items():
        path = tmp_path / f"{label.lower()}.{suffix}"
        deepdft.write_density(path, density)
        specs.append(f"{label}={path}")
    ensemble = open_densities(specs)
    (row,) = spreads(ensemble, [0], reference="PBE")
    read = {label: deepdft.read_density(spec.partition("=")[2]) for label, spec in zip(densities, specs, strict=True)}
    assert row.eps_mad == pytest.approx(eps_mad(np.stack([grid.values for grid in read.values()])), rel=1e-9)
    assert row.eps_mad == pytest.approx(eps_mad(np.stack([grid.values for grid in densities.values()])), rel=1e-4)
    assert (row.name, row.formula) == (f"pbe.{suffix}", "CO")
    assert ensemble.density(0, "LDA").values.shape == (10, 11, 12)


def test_folders_of_files_are_matched_by_name(tmp_path, structures):
    for label in ("PBE", "RPBE"):
        for name, densities in structures.items():
            if (label, name) != ("RPBE", "s1"):
                suffix = ".gz" if label == "PBE" else ""
                (tmp_path / label / name).mkdir(parents=True)
                deepdft.write_density(tmp_path / label / name / f"CHGCAR{suffix}", densities[label])
    ensemble = open_densities([f"PBE={tmp_path}/PBE", f"RPBE={tmp_path}/RPBE"])
    assert (ensemble.names, ensemble.incomplete) == (["s0/CHGCAR", "s2/CHGCAR"], ["s1/CHGCAR"])
    for row, name in zip(spreads(ensemble, [0, 1], reference="PBE"), ("s0", "s2"), strict=True):
        two = [structures[name][label].values for label in ("PBE", "RPBE")]
        assert row.eps_mad == pytest.approx(eps_mad(np.stack(two)), rel=1e-4)


def test_fingerprints_tell_ensembles_apart(tmp_path, structures):
    store = write_store(tmp_path / "store", structures)
    whole = StoreEnsemble.of_store(store)
    some = StoreEnsemble({label: (store, label) for label in LABELS[:2]})
    for label in ("PBE", "LDA"):
        deepdft.write_density(tmp_path / f"{label}.cube", structures["s0"][label])
    files = FileEnsemble({label: tmp_path / f"{label}.cube" for label in ("PBE", "LDA")})
    before = files.fingerprint
    assert len({whole.fingerprint, some.fingerprint, before}) == 3
    deepdft.write_density(tmp_path / "LDA.cube", structures["s1"]["LDA"])
    assert files.fingerprint != before


def changed(density, **changes):
    atoms = density.atoms.copy()
    for name, value in changes.items():
        if name not in ("values", "origin"):
            setattr(atoms, name, value)
    return DensityGrid(changes.get("values", density.values), atoms, changes.get("origin", density.origin))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: changed(d, values=d.values[:, :, :-1].copy()), r"grids \(7 × 8 × 9 and 7 × 8 × 8 points\)"),
        (lambda d: changed(d, cell=CELL * 1.01), "cells"),
        (lambda d: changed(d, origin=np.array([0.0, 0.0, 0.5])), r"origins \(by 0.5 Å\)"),
        (lambda d: changed(d, numbers=[6, 1, 8, 6]), r"atoms \(CH2O and C2HO\)"),
        (lambda d: changed(d, numbers=d.atoms.numbers[::-1]), "order of the atoms"),
        (
            lambda d: changed(d, positions=d.atoms.positions + np.eye(4, 3) * 0.02),
            r"positions of the atoms \(by 0.02 Å\)",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["stores", "files"])
def test_densities_that_cannot_be_compared_are_refused(tmp_path, kind, change, expected):
    densities = make_densities(labels=LABELS[:2])
    specs = []
    for label, density in (("PBE", densities["PBE"]), ("RPBE", change(densities["RPBE"]))):
        path = tmp_path / (label if kind == "stores" else f"{label}.h5")
        if kind == "stores":
            write_store(path, {"water": density}, [label])
        else:
            deepdft.write_density(path, density)
        specs.append(f"{label}={path}")
    ensemble = open_densities(specs)
    with pytest.raises(ValueError, match=rf"(water|PBE\.h5): PBE and RPBE differ in their {expected}") as refused:
        ensemble.structure(0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (["PBE={}/a"], "a spread needs at least two densities of each structure, found PBE"),
        (["PBE={}/a.cube"], "a spread needs at least two densities of each structure, found PBE"),
        ([], "found none"),
        (["PBE={}/a", "PBE={}/b"], "two are labelled PBE"),
        (["PBE={}/a", "RPBE={}/a"], "PBE and RPBE are both"),
        (["PBE={}/a.cube", "RPBE={}/a.cube"], "PBE and RPBE are both"),
        (["{}/a", "RPBE={}/b"], "expected LABEL=PATH, as PBE=pbe/CHGCAR"),
        (["PBE=", "RPBE={}/b"], "'PBE=': expected LABEL=PATH"),
        (["PBE={}/a", "RPBE={}/a.cube"], "expected all stores or all files"),
        (["PBE={}/a", "RPBE={}/other"], "none of its structures, such as 'x', is among those of"),
    ],
)
def test_what_is_no_ensemble_is_refused(tmp_path, specs, expected):
    densities = make_densities(labels=LABELS[:2])
    for name, structure in (("a", "s"), ("b", "s"), ("other", "x")):
        write_store(tmp_path / name, {structure: densities["PBE"]}, ["PBE"])
    deepdft.write_density(tmp_path / "a.cube", densities["PBE"])
    with pytest.raises(ValueError, match=expected):
        open_densities([spec.format(tmp_path) for spec in specs])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.cube"):
        open_densities([f"PBE={tmp_path}/gone.cube", f"RPBE={tmp_path}/gone2.cube"])


def test_two_files_of_one_name_are_refused(tmp_path):
    density = make_densities()["PBE"]
    for label in ("PBE", "RPBE"):
        (tmp_path / label).mkdir()
        deepdft.write_density(tmp_path / label / "a.cube", density)
        deepdft.write_density(tmp_path / label / "a.cube.gz", density)
    with pytest.raises(ValueError, match=r"PBE: 'a\.cube' is there twice"):
        open_densities([f"PBE={tmp_path}/PBE", f"RPBE={tmp_path}/RPBE"])


def test_one_density_a_structure_is_no_ensemble(tmp_path):
    store = write_store(tmp_path / "store", {"s": make_densities()["PBE"]}, ["PBE"])
    with pytest.raises(ValueError, match=r"store: a spread needs at least two densities of each structure, found PBE"):
        StoreEnsemble.of_store(store)


def test_the_reference_is_pbe_or_what_is_asked_for():
    assert reference_label(["RPBE", "PBE"], None) == "PBE"
    assert reference_label(["RPBE", "PBE"], "RPBE") == "RPBE"
    with pytest.raises(ValueError, match=r"reference=LDA: no density has this label; give reference= one of RPBE, PBE"):
        reference_label(["RPBE", "PBE"], "LDA")
    with pytest.raises(ValueError, match=r"no density is labelled PBE; give reference= one of PE, RP"):
        reference_label(["PE", "RP"], None)


def test_the_table_holds_the_spread_and_the_errors_of_a_model(tmp_path):
    row = structure_spread(as_structure(make_densities(), "a, b"), "PBE")
    error = StructureErrors(0, "a, b", "CH2O", 4, 504, 1.0, {"eps_mae": (0.7, 100.0), "electron_error": (-0.3, 1.0)})
    write_csv(tmp_path / "spread.csv", [row])
    write_csv(tmp_path / "both.csv", [row], [error])
    tables = {}
    for name in ("spread", "both"):
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            (tables[name],) = csv.DictReader(file)
    deviations = tuple(f"deviation_{label}" for label in LABELS)
    columns = ("name", "formula", "n_atoms", "n_points", "n_electrons", "eps_mad", "electron_spread")
    assert tuple(tables["spread"]) == (*columns, *deviations)
    assert tuple(tables["both"]) == (*columns, "eps_mae", "electron_error", *deviations)
    assert float(tables["both"]["eps_mad"]) == float(tables["spread"]["eps_mad"]) == row.eps_mad
    assert (float(tables["both"]["eps_mae"]), float(tables["both"]["electron_error"])) == (0.7, -0.3)
    assert float(tables["both"]["deviation_LDA"]) == row.deviations["LDA"]
    with pytest.raises(ValueError, match="zip"):
        write_csv(tmp_path / "wrong.csv", [row, row], [error])


def test_a_row_survives_json():
    row = structure_spread(as_structure(make_densities()), "PBE")
    assert StructureSpread(**json.loads(json.dumps(row.__dict__))) == row


def test_a_ninth_functional_in_a_store_does_not_change_the_spread(tmp_path):
    """The labels of the paper's eight, among others; two stores, one with SCAN and one without."""
    eight = ("PBE", "RPBE", "revPBE", "PW91", "PBEsol", "BEEF", "CA", "PZ")
    densities = make_densities(labels=(*eight, "SCAN"))
    nine_stored = write_store(tmp_path / "nine", {"s": densities}, labels=(*eight, "SCAN"))
    eight_stored = write_store(tmp_path / "eight", {"s": {label: densities[label] for label in eight}}, labels=eight)
    (nine,), (expected,) = (
        spreads(StoreEnsemble.of_store(store), [0], reference="PBE") for store in (nine_stored, eight_stored)
    )
    assert list(nine.deviations) == list(eight)
    assert nine.eps_mad == expected.eps_mad == pytest.approx(eps_mad([densities[x].values for x in eight]), rel=1e-6)
    named = open_densities([f"{label}={tmp_path / 'nine'}" for label in ("PBE", "SCAN")])
    assert named.labels == ["PBE", "SCAN"]  # asked for by name
