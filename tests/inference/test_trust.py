"""Atoms unlike those of the training set are named, and the expected error follows from calibrated structures."""

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from deepdft.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from deepdft.evaluation.trust_record import trust_record
from deepdft.inference.domain import MAX_BYTES, Domain, ExpectedError, fit_domain
from deepdft.inference.predictor import Predictor
from deepdft.models.ensemble import Ensemble
from deepdft.models.free_atoms import FreeAtoms
from deepdft.models.orbital import Orbital
from deepdft.models.painn import PaiNN
from deepdft.models.schnet import SchNet
from deepdft.models.schnet_released import SchNetReleased

SMALL = {
    Orbital: {"hidden_size": 8, "n_interactions": 2, "l_max": 2, "n_orbitals": 2, "n_radial": 4},
    PaiNN: {"hidden_size": 8, "n_interactions": 2},
    SchNet: {"hidden_size": 8, "n_interactions": 2},
    SchNetReleased: {"hidden_size": 8, "n_interactions": 2},
}


def small(kind, seed=0):
    torch.manual_seed(seed)
    return kind(**SMALL[kind]).eval()


def rattled(name, seed, by=0.02):
    atoms = molecule(name)
    atoms.positions += np.random.default_rng(seed).normal(0.0, by, atoms.positions.shape)
    return atoms


NAMES = ("H2O", "CH4", "NH3", "CH3OH", "CO2", "C2H6")
TRAINING = [rattled(name, seed) for name in NAMES for seed in range(6)]
VALIDATION = [(rattled(name, 100 + seed), 0.5) for name in NAMES for seed in range(4)]


def predictor(model, **info):
    record = trust_record(model, TRAINING, VALIDATION, pbc=None)
    return Predictor(model, info={"elements": [1, 6, 7, 8], "trust": record, **info}, allow_unknown=True)


def squeezed():
    """Ethane with a bond of 1.0 Å between its carbon atoms."""
    atoms = rattled("C2H6", 50)
    length = atoms.get_distance(0, 1)
    atoms.positions[[0, 2, 3, 4]] += (1.0 - length) / length * (atoms.positions[0] - atoms.positions[1])
    return atoms


@pytest.mark.parametrize("kind", list(SMALL))
def test_what_is_like_the_training_set_is_inside_and_what_is_not_is_named(kind):
    trusting = predictor(small(kind))
    inside = [trusting.trust(rattled(name, 200 + seed)) for name in NAMES for seed in range(3)]
    assert sum(trust.outside for trust in inside) <= 4  # each has some of the 1 % of atoms beyond the limit
    assert np.median([trust.novelty.max() for trust in inside]) < 1
    trust = trusting.trust(squeezed())
    assert trust.outside
    assert trust.expected_eps_mae is None
    assert "surroundings unlike any the model was trained on" in trust.words
    assert trust.novelty[:2].min() > 1
    sulfur = trusting.trust(molecule("CH3SH"))
    assert "atom 2 (S): an element the model was not trained on" in sulfur.reasons
    assert np.isinf(sulfur.novelty[1])
    assert np.isfinite(np.delete(sulfur.novelty, 1)).all()
    assert sulfur.as_dict()["novelty"][1] is None


def test_a_crystal_is_outside_for_a_model_of_molecules_and_inside_for_one_of_crystals():
    model = small(SchNet)
    trust = predictor(model).trust(bulk("C"))
    assert trust.reasons[0] == "a periodic structure, and the model was trained on molecules only"
    assert trust.expected_eps_mae is None
    crystals = [bulk("C", a=a) for a in (3.5, 3.55, 3.6, 3.65)]
    record = trust_record(model, crystals[::2], [(atoms, 0.2) for atoms in crystals[1::2]], pbc=None)
    assert not Predictor(model, info={"trust": record}).trust(crystals[1]).outside


def test_a_molecule_in_a_wide_periodic_box_is_a_molecule():
    atoms = rattled("CH3OH", 300)
    atoms.center(vacuum=5.0)
    atoms.pbc = True
    assert not any("periodic" in reason for reason in predictor(small(SchNet)).trust(atoms).reasons)


def test_novelty_does_not_depend_on_rotation_or_on_the_order_of_atoms():
    trusting = predictor(small(Orbital))
    atoms = rattled("CH3OH", 7, by=0.1)
    turned = atoms.copy()
    turned.rotate(37.0, (1.0, 2.0, -0.5))
    order = np.array([3, 1, 5, 0, 2, 4])
    np.testing.assert_allclose(trusting.trust(turned[order]).novelty, trusting.trust(atoms).novelty[order], rtol=2e-3)


def test_novelty_is_the_distance_to_the_nearest_atom_of_the_element():
    rng = np.random.default_rng(0)
    numbers = np.repeat([1, 8], 40)
    invariants = rng.normal(size=(80, 5)) * [1, 10, 100, 0.1, 0.0] + np.where(numbers == 8, 3.0, 0.0)[:, None]
    domain = fit_domain(numbers, invariants, periodic=False)
    new = rng.normal(size=(6, 5)) * [1, 10, 100, 0.1, 0.0]
    found = domain.novelty(np.array([1, 8, 1, 8, 1, 9]), new)
    projected = invariants @ domain.projection
    for number, point, novelty in zip([1, 8, 1, 8, 1], new @ domain.projection, found, strict=False):
        expected = np.linalg.norm(projected[numbers == number] - point, axis=1).min()
        assert novelty == pytest.approx(expected, rel=1e-9)
    assert np.isinf(found[5])
    within = projected - np.stack([projected[numbers == number].mean(axis=0) for number in numbers])
    np.testing.assert_allclose(within.T @ within / 80, np.eye(domain.projection.shape[1]), atol=1e-9)  # whitened


def test_a_record_of_many_atoms_stays_small_and_covers_them():
    rng = np.random.default_rng(1)
    numbers = np.array([1] * 6000 + [8])
    invariants = rng.normal(size=(6001, 20))
    invariants[17] = 30.0  # an atom unlike all others
    domain = fit_domain(numbers, invariants, periodic=False)
    assert sum(2 * rows.size for rows in domain.references.values()) + 4 * domain.projection.size <= MAX_BYTES
    assert domain.novelty(numbers[[17, 6000]], invariants[[17, 6000]]).max() < 1e-6


def test_the_expected_error_grows_with_novelty_and_follows_a_power_law():
    novelties = [np.full(5, x) for x in (0.1, 0.2, 0.4, 0.8)]
    fit = ExpectedError.fit(novelties, 3.0 * np.array([0.1, 0.2, 0.4, 0.8]) ** 0.7)
    assert (fit.at_limit, fit.power) == (pytest.approx(3.0), pytest.approx(0.7))
    values = [fit(novelty) for novelty in novelties]
    assert values == sorted(values)
    assert fit(np.zeros(5)) == fit(novelties[0])  # a training structure is not better than the best of the others
    assert ExpectedError.fit(novelties, np.array([4.0, 3.0, 2.0, 1.0])).power == 0.0  # never falls
    assert ExpectedError.fit(novelties[:1], np.array([2.0]))(novelties[2]) == pytest.approx(2.0)


def test_a_record_is_stored_in_the_checkpoint_and_says_the_same_again(tmp_path):
    model = small(SchNet)
    before = predictor(model)
    config = {"_target_": "deepdft.models.schnet.SchNet", **SMALL[SchNet]}
    save_checkpoint(tmp_path / "a.ckpt", Checkpoint(model, config, info=before.info))
    after = Predictor.from_checkpoint(tmp_path / "a.ckpt", allow_unknown=True)
    for atoms in (rattled("CH3OH", 400), squeezed()):
        assert after.trust(atoms).words == before.trust(atoms).words
        np.testing.assert_allclose(after.trust(atoms).novelty, before.trust(atoms).novelty, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::deepdft.errors.InputWarning")  # random weights make negative densities
def test_a_prediction_carries_its_trust_in_words():
    trusting = predictor(small(SchNet))
    density = trusting.predict(rattled("CH3OH", 401), spacing=0.8)
    assert density.info["trust"] == "expected ε_mae 0.5 %"
    assert density.info["expected_eps_mae"] == "0.5"
    outside = trusting.predict(squeezed(), spacing=0.8)
    assert "atoms" in outside.info["trust"]
    assert "expected_eps_mae" not in outside.info


@pytest.mark.parametrize("model", [small(SchNet), FreeAtoms()], ids=["old checkpoint", "no invariants"])
def test_without_a_record_there_is_no_estimate(model):
    trust = Predictor(model).trust(molecule("H2O"))
    assert trust.words == "no estimate: the checkpoint has no trust record"
    assert (trust.novelty, trust.expected_eps_mae, trust.outside) == (None, None, False)


def test_a_damaged_record_is_refused_in_one_line():
    with pytest.raises(ValueError, match="trust record of the checkpoint is damaged"):
        Predictor(small(SchNet), info={"trust": {"limit": 1.0}}).trust(molecule("H2O"))


def test_an_ensemble_expects_its_error_from_its_spread_where_it_is_inside():
    members = [small(SchNet, seed) for seed in range(2)]
    trusting = predictor(Ensemble(members, spread_scale=2.0).eval())
    trust = trusting.trust(rattled("CH3OH", 3))
    assert trust.expected_eps_mae == pytest.approx(2.0 * trust.spread)
    outside = trusting.trust(squeezed())
    assert (outside.expected_eps_mae, outside.outside) == (None, True)


def test_members_with_records_of_their_own_make_an_ensemble_without(tmp_path):
    for seed in range(2):
        model = small(SchNet, seed)
        config = {"_target_": "deepdft.models.schnet.SchNet", **SMALL[SchNet]}
        save_checkpoint(tmp_path / f"{seed}.ckpt", Checkpoint(model, config, info=predictor(model).info))
    checkpoint = load_checkpoint([tmp_path / "0.ckpt", tmp_path / "1.ckpt"])
    assert "trust" not in checkpoint.info
    words = Predictor(checkpoint.model, info=checkpoint.info).trust(molecule("H2O")).words
    assert words.startswith("no estimate: the ensemble is not calibrated")


def test_validation_structures_are_needed():
    with pytest.raises(ValueError, match="calibrated on validation structures"):
        trust_record(small(SchNet), [ase.Atoms("H")], [], pbc=None)


def test_a_record_that_was_read_is_the_one_that_was_written():
    record = trust_record(small(SchNet), TRAINING, VALIDATION, pbc=None)
    again = Domain.from_plain(record).to_plain()
    assert again["limit"] == record["limit"]
    assert again["expected"] == record["expected"]
    assert torch.equal(again["references"][6], record["references"][6])


def test_one_atom_of_each_element_is_too_little_for_a_record():
    assert trust_record(small(SchNet), [ase.Atoms("OH", [[0, 0, 0], [0, 0, 1]])], VALIDATION, pbc=None) is None
