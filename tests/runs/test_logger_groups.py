"""Each option of the group `logger` writes beside metrics.csv, or names the extra that it needs."""

from pathlib import Path

import pytest

from deepdft import compose
from deepdft.runs import loggers


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    cfg = compose("train", [f"logger={name}", "data=qm9_demo", f"run_dir={tmp_path}"])
    assert set(cfg.logger) == {"csv", name}
    with pytest.raises(ValueError, match=rf"logger={name} needs .*pip install 'deepdft-lightning\[{name}\]'"):
        loggers.make_loggers(cfg.logger)


def test_tensorboard_writes_into_the_run_directory(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    cfg = compose("train", ["logger=tensorboard", "data=qm9_demo", f"run_dir={tmp_path}"])
    _, board = loggers.make_loggers(cfg.logger)
    board.log_metrics({"val/eps_mae": 1.0}, step=0)
    board.finalize("success")
    assert list((tmp_path / "tensorboard").glob("events.out.*"))
