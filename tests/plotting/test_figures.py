"""Content of the figures: titles, names, scales. Their looks were judged by eye."""

import ase
import ase.build
import numpy as np
import pytest
from ase.build import molecule
from matplotlib import image

from deepdft import plotting
from deepdft.density import DensityGrid

CRYSTAL = {"cell": np.eye(3) * 6.0, "pbc": True}


def texts(figure):
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [axes.get_title() for axes in figure.axes]
    for axes in figure.axes:
        found += [text.get_text() for text in (axes.get_legend().get_texts() if axes.get_legend() else [])]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return found + ([figure.get_suptitle()] if figure.get_suptitle() else [])


def water_density(width=0.5):
    atoms = molecule("H2O", vacuum=3.0)
    grid = DensityGrid(np.zeros((24, 26, 28)), atoms)
    distance = np.linalg.norm(grid.points()[:, None] - atoms.positions, axis=2)
    return DensityGrid(np.exp(-((distance / width) ** 2)).sum(axis=1).reshape(grid.shape), atoms)


def test_a_slice_shows_the_elements_in_its_plane():
    shown = texts(plotting.slices(water_density()))
    assert shown.count("O") == 1
    assert shown.count("H") == 2
    assert any(text.startswith("H$_{2}$O\n") and text.endswith(" valence electrons") for text in shown)


@pytest.mark.parametrize(
    ("name", "label", "limits"),
    [
        ("density", "density (e/Å³)", (1e-3, 3.0)),
        ("iri", "IRI (Å$^{-0.7}$ e$^{-0.1}$)", (0.0, 3 / 0.529177**0.7)),
        ("dori", "DORI", (0.0, 1.0)),
    ],
)
def test_a_quantity_is_drawn_with_its_own_colours(name, label, limits):
    atoms = molecule("H2O")
    plane = plotting.choose_plane(atoms)
    values = np.linspace(0.0, 20.0, np.prod(plane.shape)).reshape(plane.shape)
    figure = plotting.plane_picture(plane, atoms, values, scale=plotting.SCALES[name])
    (image,) = [image for axes in figure.axes for image in axes.images]
    assert image.get_clim() == pytest.approx(limits, rel=1e-6)
    bars = [child for axes in figure.axes for child in axes.child_axes]
    assert [bar.get_ylabel() for bar in bars] == [label]
    scale = plotting.SCALES[name]
    np.testing.assert_allclose([line.get_ydata()[0] for line in bars[0].lines], scale.contours)


def test_atoms_of_neighbouring_cells_are_shown_in_a_crystal():
    atoms = ase.Atoms("Li", positions=[[0.0, 0.0, 0.0]], cell=np.eye(3) * 3.0, pbc=True)
    shown = texts(plotting.slices(DensityGrid(np.ones((6, 6, 6)), atoms), title="crystal"))
    assert shown.count("Li") == 4


def test_atoms_on_the_faces_of_a_cell_are_labelled_and_the_dashed_line_is_explained():
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    figure = plotting.slices(DensityGrid(np.ones((8, 8, 8)), atoms), unknown=[11])
    shown = texts(figure)
    assert shown.count("Na") >= 4
    assert shown.count("Cl") >= 2
    assert "boundary of the cell" in shown
    assert "element that the model was not trained on" in shown
    rings = [line for line in figure.axes[0].lines if line.get_fillstyle() == "none"]
    assert len(rings) == shown.count("Na")
    assert any(text.startswith("NaCl\n") for text in shown)


def test_circles_beside_the_plane_are_explained():
    density = DensityGrid(np.ones((8, 8, 8)), molecule("CH4", vacuum=3.0))
    assert "atom up to 1.4 Å above or below the plane" in texts(plotting.slices(density))
    assert not plotting.slices(water_density()).legends


def test_the_label_of_the_colour_bar_lies_within_the_picture(tmp_path):
    atoms = molecule("H2O", vacuum=3.0)
    plane = plotting.choose_plane(atoms)
    for name in plotting.SCALES:
        values = np.linspace(0.0, 5.0, np.prod(plane.shape)).reshape(plane.shape)
        figure = plotting.plane_picture(plane, atoms, values, scale=plotting.SCALES[name])
        plotting.save(figure, tmp_path / "x.png")
        picture = figure.get_tightbbox()  # inches, what is written
        (bar,) = [child for axes in figure.axes for child in axes.child_axes]
        label = bar.yaxis.label.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
        assert picture.x0 <= label.x0 < label.x1 <= picture.x1 + 0.1
        assert picture.y0 <= label.y0 < label.y1 <= picture.y1 + 0.1
        drawn = image.imread(tmp_path / "x.png")[:, :, :3]
        for border in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]):
            assert (border == 1).all()  # nothing touches the edge


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True), "NaCl"),
        (ase.Atoms("O3Fe2O3Fe2", scaled_positions=np.linspace(0, 0.9, 10)[:, None] * np.ones(3), **CRYSTAL), "Fe2O3"),
        (molecule("CH3CH2OH"), "C2H6O"),
        (molecule("NH3"), "NH3"),
        (molecule("H2O"), "H2O"),
        (molecule("SiH4"), "SiH4"),
        (molecule("C6H6"), "C6H6"),
        (molecule("HCl"), "HCl"),
    ],
    ids=str,
)
def test_formulas_are_written_as_chemists_do(atoms, expected):
    assert plotting.formula(atoms) == expected


def test_a_comparison_has_the_error_of_the_whole_grid_in_its_title():
    reference = water_density()
    predicted = DensityGrid(reference.values * 1.0325, reference.atoms)
    figure = plotting.comparison(reference, predicted, name="water")
    assert "3.25 %" in figure.get_suptitle()
    assert figure.get_suptitle().startswith("water, H$_{2}$O")
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 3
    low, high = images[2].get_clim()
    assert low == -high


def test_a_comparison_asks_the_model_only_for_the_points_it_draws():
    reference = water_density()
    asked = []

    def predict(points):
        asked.append(len(points))
        distance = np.linalg.norm(points[:, None] - reference.atoms.positions, axis=2)
        return np.exp(-((distance / 0.5) ** 2)).sum(axis=1)

    figure = plotting.compare_predicted(reference, predict)
    assert sum(asked) < reference.values.size
    difference = [axes.images[0] for axes in figure.axes if axes.images][2].get_array()
    np.testing.assert_allclose(difference.compressed(), 0, atol=1e-10)


def test_outliers_are_those_beyond_the_fence_largest_first():
    errors = np.concatenate([np.geomspace(0.9, 1.1, 50), [5.0, 9.0]])
    assert plotting.outlier_indices(errors) == [51, 50]
    assert plotting.outlier_indices(np.geomspace(0.9, 1.1, 50)) == []


def test_a_histogram_names_its_outliers_mean_and_median():
    errors = np.concatenate([np.full(98, 1.0), [4.0, 8.0]])
    shown = texts(plotting.error_histogram(errors, [f"molecule {i}" for i in range(100)]))
    assert "molecule 99  8" in shown
    assert "molecule 98  4" in shown
    assert "mean 1.1" in shown
    assert "median 1" in shown
    assert "outliers (2)" in shown


def test_a_histogram_without_outliers_names_the_largest_error():
    errors = np.linspace(1.0, 1.2, 20)
    shown = texts(plotting.error_histogram(errors, [f"m{i}" for i in range(20)]))
    assert "largest: m19 1.2" in shown


def test_fewer_than_ten_structures_are_points_with_names_and_no_bars():
    nine = plotting.error_histogram(np.linspace(1, 2, 9), [f"m{i}" for i in range(9)])
    (axes,) = nine.axes
    assert len(axes.patches) == 0
    (points,) = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points.get_xdata(), np.linspace(1, 2, 9))
    assert {f"m{i}" for i in range(9)} == {text.get_text().split()[0] for text in axes.texts}
    ten = plotting.error_histogram(np.linspace(1, 2, 10), [f"m{i}" for i in range(10)])
    assert len(ten.axes[0].patches) == 1


def test_names_of_structures_are_no_formulas_of_matplotlib(tmp_path):
    hostile = ["$\\frac$", "a$b\nc"]
    plotting.save(plotting.error_histogram([1.0, 2.0], hostile, title=hostile[0]), tmp_path / "strip.png")
    density = water_density()
    plotting.save(plotting.comparison(density, density, name=hostile[0]), tmp_path / "comparison.png")
    plotting.save(plotting.slices(density, model=hostile[1]), tmp_path / "slice.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_histogram_of_one_structure_can_be_drawn(tmp_path):
    plotting.save(plotting.error_histogram([0.0], ["only"]), tmp_path / "histogram.png")
    assert (tmp_path / "histogram.png").stat().st_size > 5000


@pytest.mark.parametrize(("errors", "names"), [([], []), ([1.0], ["a", "b"])])
def test_a_histogram_needs_a_name_for_each_error(errors, names):
    with pytest.raises(ValueError, match="as many names as errors"):
        plotting.error_histogram(errors, names)


def test_distributions_share_an_axis_and_count_in_percent():
    errors = np.concatenate([np.geomspace(0.27, 0.33, 98), [3.0, 5.0]])
    model = {f"molecule {i}": error for i, error in enumerate(errors)}
    figure = plotting.error_distributions({"model": model, "DFT": {"a": 0.5, "b": 0.7}}, title="both")
    shown = texts(figure)
    assert "both" in shown
    assert f"model: mean {errors.mean():.3g} (100)" in shown
    assert "DFT: mean 0.6 (2)" in shown  # as points
    assert "molecule 99  5" in shown
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    filled = [patch.get_data() for patch in axes.patches if patch.get_fill()]
    for shares, edges, _ in filled:
        assert shares.sum() == pytest.approx(100.0)
        assert (edges[0] < 0.3, edges[-1] > 5.0) == (True, True)
    outliers = [line.get_xdata() for line in axes.lines if line.get_marker() == "v"]
    assert [sorted(points) for points in outliers] == [[3, 5]]
    (points,) = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
    assert list(points) == [0.5, 0.7]


@pytest.mark.parametrize("series", [{}, {"model": {}}])
def test_distributions_of_nothing_are_refused(series):
    with pytest.raises(ValueError, match="at least one error"):
        plotting.error_distributions(series)


def test_learning_curves_leave_out_what_is_not_finite_and_give_the_last_value():
    figure = plotting.learning_curves(
        {"schnet": ([0, 10, 100, 200], [50.0, 20.0, 10.0, np.nan])}, levels={"zero": 100.0}
    )
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [20.0, 10.0])
    assert "schnet: 10" in texts(figure)
    assert "zero 100" in texts(figure)


def test_learning_curves_without_a_point_are_refused():
    with pytest.raises(ValueError, match="no learning curve"):
        plotting.learning_curves({"empty": ([], [])})


def test_a_picture_is_written_whole(tmp_path):
    plotting.save(plotting.slices(water_density()), tmp_path / "water.png")
    assert [path.name for path in tmp_path.iterdir()] == ["water.png"]
    assert (tmp_path / "water.png").read_bytes().startswith(b"\x89PNG")
