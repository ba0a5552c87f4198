"""Imports point downwards only, and heavy libraries stay where they belong (the table is the design's)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "deepdft"

LAYERS = [  # lowest first; a module may import from its own and from lower layers
    {"chunks", "compiled", "errors", "files", "locks", "memory", "units", "vectors", "version"},
    {"density", "interop"},
    {"electrostatics"},
    {"comparison", "measures"},
    {"graph", "nn", "metrics", "io", "plotting", "bundled"},
    {"data", "models", "checkpoint"},
    {"clusters", "training", "inference", "dft"},
    {"ase", "evaluation", "testing"},
    {"runs"},
    {"cli", "viewer"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

ALLOWED = {  # third-party library → parts of the package that may import it
    "hydra": {"cli", "runs", "checkpoint"},
    "pytorch_lightning": {"training", "data/datamodule", "runs"},
    "lightning": set(),
    "gpaw": {"dft"},
    "fastapi": {"viewer"},
    "uvicorn": {"viewer"},
    "pytest": {"testing"},
    "torch": {"graph", "nn", "metrics", "data", "models", "checkpoint", "training", "inference", "dft"}
    | {"electrostatics", "comparison"}
    | {"evaluation", "viewer", "testing", "runs"},
}

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield str(node.module)
            if node.module == "deepdft":
                yield from (f"deepdft.{alias.name}" for alias in node.names)


def part(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.name not in ("__init__.py", "__main__.py") or len(m.parts) > 1], ids=str
)
def test_imports_point_downwards(module: Path) -> None:
    for name in imports(module):
        pieces = name.split(".")
        if pieces[0] == "deepdft" and len(pieces) > 1 and pieces[1] in LEVEL:
            assert LEVEL[pieces[1]] <= LEVEL[part(module)], f"{module} imports {name}, which lies above it"
        allowed = ALLOWED.get(pieces[0])
        if allowed is not None:
            here = {part(module), module.with_suffix("").as_posix()}
            assert here & allowed, f"{module} imports {name}, which belongs in {sorted(allowed)}"


def test_every_part_of_the_package_has_a_layer() -> None:
    parts = {part(module) for module in MODULES} - {"__init__", "__main__"}
    assert parts <= set(LEVEL), f"parts without a layer: {parts - set(LEVEL)}"


def test_importing_the_package_is_light() -> None:
    code = "import sys, deepdft; print([m for m in ('torch', 'hydra', 'pytorch_lightning') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_prediction_without_a_picture_does_not_wait_for_what_it_does_not_use(tmp_path):
    """matplotlib takes half a second, torch's compiler and Lightning a second each."""
    code = (
        "import sys\n"
        "sys.argv = ['deepdft-predict', 'structure=water', 'output=x.cube', 'spacing=0.5', 'picture=false']\n"
        "from deepdft.cli.predict import main\n"
        "main()\n"
        "slow = {'matplotlib', 'torch._dynamo', 'pytorch_lightning', 'pandas', 'h5py', 'wandb'}\n"
        "print('imported:', sorted(slow & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.endswith("imported: []\n"), result.stdout
