"""A structure in overlapping domains has the density that it has as a whole."""

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, molecule

from deepdft.inference.box import make_box
from deepdft.inference.domains import Domains
from deepdft.inference.encoded import EncodedStructure
from deepdft.inference.pieces import Pieces, max_atoms_at_once
from deepdft.inference.predictor import Predictor
from deepdft.inference.slabs import SlabFiles, cut_into_slabs
from deepdft.inference.structure_fields import StructureFields
from deepdft.models.orbital import Orbital
from deepdft.models.painn import PaiNN
from deepdft.models.schnet import SchNet
from deepdft.models.schnet_released import SchNetReleased


def chain():
    """A molecule of 24 Å, longer than the receptive fields of these models."""
    atoms = ase.Atoms()
    for i in range(9):
        part = molecule("H2O")
        part.rotate(40 * i, "x")
        part.translate([2.9 * i, 0.3 * np.sin(i), 0.0])
        atoms += part
    return atoms


def liquid():
    """Water molecules at random places of a cell, in any orientation, some outside of it."""
    rng, atoms = np.random.default_rng(0), ase.Atoms()
    for cell in np.ndindex(4, 3, 3):
        part = molecule("H2O")
        part.rotate(rng.uniform(0, 360), rng.normal(size=3))
        part.translate(3.1 * np.array(cell) + rng.uniform(-0.3, 0.3, 3))
        atoms += part
    atoms.set_cell([12.4, 9.3, 9.3])
    atoms.positions[::7] += atoms.cell.array[0] * 3
    atoms.pbc = True
    return atoms


def skewed():
    """A crystal whose cell is far from upright."""
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat((4, 2, 2))
    atoms.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 1, 1]]) @ atoms.cell.array)
    atoms.rattle(0.1, seed=1)
    return atoms


STRUCTURES = {  # with the atoms that a domain may have: they make 4 to 64 domains
    "molecule": (chain, 24),
    "liquid": (liquid, 900),
    "skewed crystal": (skewed, 700),
    "slab": (lambda: fcc111("Al", (4, 4, 3), vacuum=4.0), 250),
}
MODELS = {
    "orbital": lambda: Orbital(n_orbitals=4, n_radial=4, hidden_size=8, n_interactions=2, cutoff=3.0),
    "schnet": lambda: SchNet(hidden_size=16, n_interactions=3, cutoff=3.0),
    "schnet_released": lambda: SchNetReleased(hidden_size=16, n_interactions=2, cutoff=3.0),
    "painn": lambda: PaiNN(hidden_size=16, n_interactions=2, cutoff=3.0),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    model = MODELS[request.param]().double().eval()
    for parameter in model.parameters():  # a readout that begins at zero would hide everything
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def with_limit(monkeypatch, max_atoms):
    """As if the memory were enough for so many atoms, images included."""

    def domains(model, atoms, memory, *, pbc=None):
        return Domains(atoms, model.receptive_field, max_atoms, pbc=pbc)

    monkeypatch.setattr("deepdft.inference.pieces.domains_if_needed", domains)
    monkeypatch.setattr("deepdft.inference.predictor.domains_if_needed", domains)
    monkeypatch.setattr("deepdft.inference.structure_fields.domains_if_needed", domains)


def in_pieces(model, box):
    """The total density of a grid, slab after slab."""
    pieces, values = Pieces(model, box), np.full(box.shape, np.nan)
    for slab in pieces.slabs:
        values[tuple(map(slice, slab.start, slab.stop))] = pieces.density(slab)[:, 0].reshape(slab.shape)
    return values, pieces


@pytest.mark.parametrize("name", STRUCTURES)
def test_domains_give_what_the_whole_structure_gives(model, name, monkeypatch):
    if name == "skewed crystal" and not isinstance(model, Orbital):
        pytest.skip("one model is enough for the geometry")
    make, max_atoms = STRUCTURES[name]
    atoms = make()
    box = make_box(atoms, spacing=1.6)
    whole = EncodedStructure(model, box.structure()).density(box.points())[:, 0].reshape(box.shape)
    scale = np.ptp(whole)
    assert scale > 0
    with_limit(monkeypatch, max_atoms)
    found, pieces = in_pieces(model, box)
    assert 1 < len(pieces.domains) < 100
    assert all(domain.n_atoms <= max_atoms for domain in pieces.domains)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-11 * scale)
    points = box.points()[::7]
    np.testing.assert_allclose(
        Predictor(model).predict_points(atoms, points), whole.ravel()[::7], rtol=0, atol=1e-5 * scale
    )


@pytest.mark.parametrize("name", ["molecule", "slab"])
def test_fields_in_domains_are_those_of_the_whole_structure(model, name, monkeypatch):
    make, max_atoms = STRUCTURES[name]
    atoms, predictor, names = make(), Predictor(model), ["gradient", "laplacian", "iri", "dori"]
    atoms.rattle(0.1, seed=2)  # no point on a nucleus, where derivatives have no limit
    box = make_box(atoms, spacing=2.0)
    points = box.points()[::5]
    whole, _ = predictor.fields(atoms, names, spacing=2.0)
    at_points = predictor.fields_at_points(atoms, names, points)
    with_limit(monkeypatch, max_atoms)
    fields = predictor.encode_fields(box.structure())
    assert len(fields.domains.of_grid(box)) > 1
    told = []
    found, _ = predictor.fields(atoms, names, spacing=2.0, progress=lambda *of: told.append(of))
    assert told[-1] == (box.n_points, box.n_points)
    found_at_points = fields.at(points, names)
    for one, other in ((found, whole), (found_at_points, at_points)):
        for field in names:
            scale = np.abs(other[field]).max()
            assert scale > 0 or field == "dori"  # which is zero where a density is negative
            np.testing.assert_allclose(one[field], other[field], rtol=0, atol=1e-8 * scale, err_msg=field)
    assert {field: values.shape for field, values in fields.at(points[:0], names).items()} == {
        "gradient": (0, 3),
        "laplacian": (0,),
        "iri": (0,),
        "dori": (0,),
    }


def test_fields_take_twice_the_memory_of_single_precision():
    model = MODELS["orbital"]().eval()
    assert StructureFields(model, chain()).model.encoding_bytes == 2 * model.encoding_bytes


def test_a_smaller_receptive_field_than_the_models_would_show(model, monkeypatch):
    box = make_box(liquid(), spacing=1.6)
    whole = EncodedStructure(model, box.structure()).density(box.points())[:, 0].reshape(box.shape)
    model.receptive_field -= model.cutoff  # a round of messages less
    with_limit(monkeypatch, 400)
    assert np.abs(in_pieces(model, box)[0] - whole).max() > 1e-9 * np.ptp(whole)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_density_in_single_precision_differs_by_rounding_only(order, monkeypatch):
    torch.manual_seed(0)
    model = Orbital(n_orbitals=4, n_radial=4, hidden_size=8, n_interactions=2, cutoff=3.0)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    box = make_box(liquid(), spacing=0.9)
    whole = np.concatenate(list(Predictor(model).predict_chunks(box, order=order)))
    with_limit(monkeypatch, 700)
    monkeypatch.setattr("deepdft.inference.slabs.POINTS_JOINED", 300)
    parts = list(Predictor(model).predict_chunks(box, order=order))
    assert max(map(len, parts)) <= 300
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-5 * np.abs(whole).max())


def test_domains_smaller_than_the_receptive_field_are_as_exact(gaussians, monkeypatch):
    gaussians.receptive_field = 4.0
    atoms = liquid()
    box = make_box(atoms, spacing=1.3)
    whole = EncodedStructure(gaussians, atoms).density(box.points())[:, 0].reshape(box.shape)
    with_limit(monkeypatch, 80)
    found, pieces = in_pieces(gaussians, box)
    edges = [(np.subtract(d.stop, d.start) * box.spacing).max() for d in pieces.domains]
    assert max(edges) < 4.0
    np.testing.assert_allclose(found, whole, rtol=1e-12, atol=1e-12)
    scaled = Predictor(gaussians).predict_box(box, n_electrons=288)
    assert scaled.n_electrons == pytest.approx(288, rel=1e-6)
    np.testing.assert_allclose(scaled.values, whole * (288 / whole.sum() / box.voxel_volume), rtol=1e-6)


def test_what_the_memory_is_too_small_for_is_refused(gaussians, monkeypatch):
    atoms = liquid()
    gaussians.encoding_bytes = 1e9
    monkeypatch.setattr("deepdft.inference.pieces._own_memory", lambda: 10**9)
    with pytest.raises(ValueError, match=r"memory=0.5GB: the process itself needs 1.3 GB"):
        max_atoms_at_once(gaussians, len(atoms), 5 * 10**8)
    assert max_atoms_at_once(gaussians, len(atoms), 5 * 10**9) == 3
    with pytest.raises(ValueError, match="`receptive_field` is not set"):
        Predictor(gaussians, memory=5 * 10**9).predict(atoms, spacing=1.0)
    gaussians.receptive_field = 4.0
    with pytest.raises(ValueError, match=r"depends on \d+ atoms within 4 Å, and the memory is enough for 3: allow"):
        Predictor(gaussians, memory=5 * 10**9).predict(atoms, spacing=1.0)


def test_half_of_the_free_memory_is_taken_where_nothing_is_reported(gaussians, monkeypatch):
    gaussians.encoding_bytes = 1e6
    monkeypatch.setattr("deepdft.inference.pieces.available_memory", lambda: 8 * 10**9)
    assert max_atoms_at_once(gaussians, 10, None) == 4000


def test_a_damaged_slab_is_named(tmp_path):
    box = make_box(molecule("H2O"), shape=(4, 4, 4), vacuum=2.0)
    domains = Domains(box.structure(), 4.0, 10)
    files = SlabFiles(tmp_path, cut_into_slabs(domains.of_grid(box), 32, "C"), box, 1)
    for slab in files.slabs:
        files.write(slab, np.full(slab.n_points, slab.number))
    assert [set(chunk.ravel()) for chunk in files.chunks("C")] == [{0.0}, {1.0}]
    path = files.path(files.slabs[1])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"000001.npy: damaged"):
        list(files.chunks("C"))
