"""A server of the page in this process, with the bundled model."""

import pytest

from deepdft import bundled
from deepdft.inference.predictor import Predictor
from deepdft.viewer.limits import Limits


@pytest.fixture(scope="session")
def limits():
    return Limits(max_upload_bytes=2**20, max_atoms=60, max_points=400_000, max_waiting=4, max_kept=30, max_seconds=60)


@pytest.fixture(scope="session")
def predictor():
    return Predictor.from_checkpoint(bundled.MODEL)
