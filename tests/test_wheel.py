"""The wheel holds all that the commands need: installed, they work in a folder that knows nothing of the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, unpacked like an installation."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", ["convert", "generate", "train", "evaluate", "predict", "report", "start"])
def test_commands_find_their_configs(installed: Path, tmp_path: Path, name: str) -> None:
    assert f"deepdft-{name}" in run(installed, tmp_path, "-m", f"deepdft.cli.{name}", "--help")


def test_the_template_of_the_report_is_there(installed: Path) -> None:
    assert (installed / "deepdft" / "evaluation" / "templates" / "report.html.j2").is_file()


def test_the_free_atoms_are_there(installed: Path, tmp_path: Path) -> None:
    code = "from deepdft import bundled; print(bundled.FREE_ATOMS.is_file(), bundled.FREE_ATOMS)"
    there, place = run(installed, tmp_path, "-c", code).split()
    assert there == "True"
    assert Path(place).is_relative_to(installed)


def test_the_bundled_data_is_there(installed: Path, tmp_path: Path) -> None:
    code = (
        "import deepdft; from deepdft import bundled; from deepdft.data.store import DensityStore;"
        "store = DensityStore(bundled.path('qm9_demo')); print(deepdft.__file__, len(store), store.values(0).sum() > 0)"
    )
    place, count, whole = run(installed, tmp_path, "-c", code).split()
    assert Path(place).is_relative_to(installed)
    assert (count, whole) == ("40", "True")
