"""W&B is off if its variable says so, and its errors are one line."""

import pytest
from omegaconf import OmegaConf

from deepdft.runs.wandb import one_wandb_run, wandb_errors


@pytest.mark.parametrize(("variable", "value"), [("WANDB_MODE", "disabled"), ("WANDB_DISABLED", "true")])
def test_it_is_left_out_where_it_is_disabled(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    cfg = OmegaConf.create({"logger": {"csv": {}, "wandb": {"id": None}}})
    one_wandb_run(cfg)
    assert cfg.logger == {"csv": {}, "wandb": None}


def test_a_run_has_one_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    first, second = (OmegaConf.create({"logger": {"wandb": {"id": None}}}) for _ in range(2))
    one_wandb_run(first)
    one_wandb_run(second, OmegaConf.to_container(first))
    assert first.logger.wandb.id
    assert first.logger.wandb.id == second.logger.wandb.id
    for without in ({"logger": None}, {}):
        one_wandb_run(OmegaConf.create(without))


def test_its_errors_are_one_line() -> None:
    wandb = pytest.importorskip("wandb")
    for error in (wandb.errors.UsageError("api_key not configured\n(no-tty)"), wandb.errors.CommError("no route")):
        with pytest.raises(ValueError, match=r"W&B: .*logger=csv does without") as raised, wandb_errors():
            raise error
        assert "\n" not in str(raised.value)
    with pytest.raises(KeyError), wandb_errors():
        raise KeyError("ours")
