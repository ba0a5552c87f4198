"""A run directory of the version before today's defaults continues with its own settings, and is evaluated.

fixtures/version_1 was written by that version with: deepdft-train run_dir=r trainer=cpu trainer.max_steps=6
trainer.val_check_interval=3 data.num_workers=0 model.hidden_size=8 model.n_interactions=1
data.probes_per_structure=50 data.validation_probes=100 trainer.enable_progress_bar=false callbacks.picture=null
"""

import lzma
import shutil
import warnings
from pathlib import Path

import pytest
import yaml

import deepdft

FIXTURE = Path(__file__).parent / "fixtures" / "version_1"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FIXTURE, "run")
    Path("run/hydra").rename("run/.hydra")
    for packed in Path("run/checkpoints").glob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
    return tmp_path / "run"


def test_an_old_run_is_resumed_with_the_settings_it_had(run: Path) -> None:
    before = yaml.safe_load((FIXTURE / "config.yaml").read_text(encoding="utf-8"))
    config = deepdft.compose("train", [f"resume={run}", "trainer.max_steps=8"])
    for key in ("model", "optimizer", "scheduler"):
        assert config[key] == before[key]
    assert (config.loss, config.callbacks.ema, config.trainer.max_steps) == ("mse", None, 8)
    assert config.data.importance_fraction == before["data"]["density_share"] == 0.0
    assert "density_share" not in config.data


def test_an_old_orbital_run_is_resumed_under_the_names_of_today(run: Path) -> None:
    """As if it had been trained with model.max_order=1 and data.density_share=0.25."""
    config = yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))
    config["model"] = {"_target_": "deepdft.models.orbital.Orbital", "max_order": 1, "hidden_size": 8}
    config["data"]["density_share"] = 0.25
    Path("run/config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    hydra = yaml.safe_load(Path("run/.hydra/hydra.yaml").read_text(encoding="utf-8"))
    hydra["hydra"]["runtime"]["choices"]["model"] = "orbital"
    Path("run/.hydra/hydra.yaml").write_text(yaml.safe_dump(hydra), encoding="utf-8")
    overrides = ["model.max_order=1", "model.hidden_size=8", "data.density_share=0.25"]
    Path("run/.hydra/overrides.yaml").write_text(yaml.safe_dump(overrides), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what an old run was called is no concern of its user
        resumed = deepdft.compose("train", [f"resume={run}", "trainer.max_steps=8"])
    assert (resumed.model.l_max, resumed.data.importance_fraction) == (1, 0.25)
    assert not {"max_order", "density_share"} & {*resumed.model, *resumed.data}


@pytest.mark.filterwarnings("ignore::deepdft.errors.InputWarning")  # of a model trained for a few steps
def test_an_old_run_continues_and_is_evaluated_on_its_own_data(run: Path) -> None:
    trained = deepdft.train({"resume": str(run), "trainer.max_steps": 8})
    assert trained.steps == 8
    result = deepdft.evaluate(trained, limit=1, device="cpu", output="results")
    split = yaml.safe_load((FIXTURE / "split.json").read_text(encoding="utf-8"))
    assert [row.name for row in result.errors] == split["test"][:1]
