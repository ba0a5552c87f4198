"""PAW occupations of pw.x: pairs of projectors become degrees that rotate like harmonics, and come back."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from deepdft.dft.qe_occupations import read_occupations, write_occupations
from deepdft.dft.upf import partial_waves_of
from deepdft.nn.occupancies import WAVES, degrees_of_pairs, n_occupancies


def harmonics(degree, directions):
    """Real Y_lm (n, 2l + 1) for m = -l…l without the Condon-Shortley phase."""
    polar, azimuth = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    columns = []
    for m in range(-degree, degree + 1):
        value = sph_harm_y(degree, abs(m), polar, azimuth) * (-1.0) ** m
        columns.append(value.real if m == 0 else 2**0.5 * (value.imag if m < 0 else value.real))
    return np.stack(columns, axis=1)


def of_pw(degree, directions):
    """The same in pw.x's order: z, -x, -y of degree 1, and so on."""
    found = harmonics(degree, directions)
    columns = [found[:, degree]]
    for m in range(1, degree + 1):
        columns += [(-1.0) ** m * found[:, degree + m], (-1.0) ** m * found[:, degree - m]]
    return np.stack(columns, axis=1)


def rotation_of(functions, degree, rotation):
    directions = np.random.default_rng(0).normal(size=(80, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    before, after = functions(degree, directions), functions(degree, rotation.apply(directions))
    return np.linalg.lstsq(before, after, rcond=None)[0].T


def text_of(projections):
    """A paw.txt of atoms with occupied states that have projections (n_states, n_projectors)."""
    size = max(p.shape[1] for p in projections)
    rows = np.zeros((len(projections), size * (size + 1) // 2))
    for row, p in zip(rows, projections, strict=True):
        matrix = p.T @ p
        values = [matrix[i, j] * (1 if i == j else 2) for i in range(len(matrix)) for j in range(i, len(matrix))]
        row[: len(values)] = values
    return " ".join(f"{value:.16e}" for value in rows.ravel())


@pytest.mark.parametrize("waves", ["ss", "sspp", "spd", "ddp"])
def test_occupations_of_rotated_states_are_rotated(tmp_path, waves):
    rotation = Rotation.from_rotvec([0.3, 1.2, -0.5])
    generator = np.random.default_rng(1)
    degrees = [WAVES.index(wave) for wave in waves]
    parts = [generator.normal(size=(4, 2 * degree + 1)) for degree in degrees]
    turned = [part @ rotation_of(of_pw, degree, rotation).T for part, degree in zip(parts, degrees, strict=True)]
    path = tmp_path / "paw.txt"
    path.write_text(text_of([np.concatenate(parts, axis=1), np.concatenate(turned, axis=1)]))
    before, after = read_occupations(path, [waves, waves])
    first = 0
    for degree in degrees_of_pairs(waves):
        block = slice(first, first + 2 * degree + 1)
        assert np.abs(before[block]).max() > 0.1
        np.testing.assert_allclose(after[block], rotation_of(harmonics, degree, rotation) @ before[block], atol=1e-10)
        first += 2 * degree + 1


def test_the_scalar_part_of_a_channel_is_its_trace(tmp_path):
    projections = np.random.default_rng(2).normal(size=(3, 3))
    (tmp_path / "paw.txt").write_text(text_of([projections]))
    ((scalar, *_),) = read_occupations(tmp_path / "paw.txt", ["p"])
    assert abs(scalar) == pytest.approx(np.square(projections).sum() / 3**0.5)


def test_what_is_written_is_read_again_with_each_atom_of_its_own_size(tmp_path):
    waves = ["sspp", "ss", "sspp", "spd"]
    rows = np.full((4, max(map(n_occupancies, waves))), np.nan)
    for row, own in zip(rows, waves, strict=True):
        row[: n_occupancies(own)] = np.random.default_rng(3).normal(size=n_occupancies(own))
    write_occupations(tmp_path / "paw.txt", rows, waves)
    np.testing.assert_allclose(read_occupations(tmp_path / "paw.txt", waves), rows, atol=1e-12)
    with pytest.raises(ValueError, match="33 occupancies of an atom with the partial waves ss"):
        write_occupations(tmp_path / "paw.txt", rows[:2], ["ss", "ss"])
    with pytest.raises(ValueError, match=r"paw\.txt: \d+ values, expected 36 for each of 2 atoms"):
        read_occupations(tmp_path / "paw.txt", ["sspp", "sspp"])


def test_partial_waves_are_read_from_a_pseudopotential(tmp_path):
    beta = '<PP_BETA.{} type="real" index="{}"\n angular_momentum="{}" cutoff_radius_index="5">\n1.0\n</PP_BETA.{}>\n'
    path = tmp_path / "X.UPF"
    path.write_text("".join(beta.format(i, i, degree, i) for i, degree in enumerate((2, 2, 0, 1), start=1)))
    assert partial_waves_of(path) == "ddsp"
    path.write_text("<PP_HEADER/>")
    with pytest.raises(ValueError, match=r"X\.UPF: expected projectors"):
        partial_waves_of(path)
