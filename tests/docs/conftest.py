"""A folder like that of somebody who reads the documentation: VASP runs, structures, a store and a trained model."""

import tarfile
from pathlib import Path

import ase.build
import ase.io
import pytest

import deepdft
from deepdft import bundled

MOLECULES = 10


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of."""
    folder = tmp_path_factory.mktemp("docs")
    store = deepdft.Store(bundled.path("qm9_demo"))
    (folder / "calculations").mkdir()
    smallest = sorted(range(len(store)), key=lambda index: store.density(index).values.size)[:MOLECULES]
    for index in smallest:
        density = store.density(index)
        density.atoms.pbc = True  # as VASP has it
        run = folder / "calculations" / store.names[index]
        run.mkdir()
        deepdft.write_density(run / "CHGCAR", density)
        density.atoms.write(run / "POSCAR", format="vasp")
    with tarfile.open(folder / "densities.tar", "w") as tar:
        for run in sorted((folder / "calculations").iterdir()):
            tar.add(run / "CHGCAR", arcname=f"{run.name}.CHGCAR")
    water = ase.build.molecule("H2O")
    water.write(folder / "water.xyz", plain=True)
    ase.io.write(folder / "molecules.xyz", [water, ase.build.molecule("CH3OH")], format="xyz")
    deepdft.write_density(folder / "reference.cube", store.density(smallest[0]))
    return folder


@pytest.fixture
def in_sandbox(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sandbox as working directory, found by `import` as well."""
    monkeypatch.chdir(sandbox)
    monkeypatch.syspath_prepend(str(sandbox))
    return sandbox
