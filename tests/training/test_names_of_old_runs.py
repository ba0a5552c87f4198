"""Names in configs and checkpoints of runs of the previous version."""

import pytest
from hydra.utils import get_class
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer

from deepdft.training import resumable
from deepdft.training.interrupt import CheckpointOnInterrupt
from deepdft.training.resumable import ResumableEarlyStopping, ResumableModelCheckpoint
from deepdft.training.time_limit import TimeLimit


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("Checkpoints", "ResumableModelCheckpoint"),
        ("Patience", "ResumableEarlyStopping"),
        ("WholeCheckpoints", "AtomicCheckpointIO"),
        ("Interruptible", "CheckpointOnInterrupt"),
    ],
)
def test_classes_are_found_under_their_old_names(before: str, now: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{before} is called .*{now} now"):
        found = get_class(f"deepdft.training.resumable.{before}")
    assert found.__name__ == now


def test_other_names_are_not_found() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        resumable.Nothing  # noqa: B018


def test_states_of_callbacks_are_found_in_old_checkpoints(tmp_path) -> None:
    """Under what Lightning made of the old names."""
    options = {"monitor": "val/eps_mae", "dirpath": tmp_path}
    renamed = {
        ResumableModelCheckpoint(**options): type("Checkpoints", (ModelCheckpoint,), {})(**options),
        ResumableEarlyStopping("val/eps_mae"): type("Patience", (EarlyStopping,), {})("val/eps_mae"),
        CheckpointOnInterrupt("last.ckpt"): type("Interruptible", (ModelCheckpoint,), {}),
        TimeLimit(None): Timer(),
    }
    for callback, old in renamed.items():
        key = old.__name__ if isinstance(old, type) else old.state_key
        assert callback._legacy_state_key == key
