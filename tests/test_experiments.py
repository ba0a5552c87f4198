"""The settings of the studies are settings of today's commands."""

import importlib.util
import sys
from pathlib import Path

import pytest

from deepdft.runs.compose import compose

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
STUDIES = {
    "kill_test": "SETTINGS",
    "model_comparison": "COMMON",
    "orbital_settings": "COMMON",
    "qm9_small": "TRAINING",
    "released_vs_paper": "SETTINGS",
}
"""Study → its list of settings of deepdft-train."""


@pytest.mark.skipif(not EXPERIMENTS.is_dir(), reason="the studies are in the checkout only")
@pytest.mark.parametrize("name", STUDIES)
def test_settings_of_a_study_compose(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = EXPERIMENTS / name / "run.py"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    study = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.setitem(sys.modules, name, study)
    spec.loader.exec_module(study)
    overrides = [*getattr(study, STUDIES[name])]
    if not any(override.startswith("data=") for override in overrides):
        overrides.append("data=qm9_demo")
    if "resume=auto" in overrides:
        overrides.append(f"run_dir={tmp_path / 'run'}")
    assert compose("train", overrides).trainer.max_steps != 0
