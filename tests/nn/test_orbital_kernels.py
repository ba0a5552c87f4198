"""The kernel of Triton in its interpreter (`make triton`, as CI does); `ModelContract` checks it on a GPU."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import numpy as np, torch
from ase.build import bulk, molecule
from deepdft.models.orbital import Orbital
from deepdft.inference.encoded import EncodedStructure
torch.manual_seed(0)
model = Orbital(hidden_size=16, n_interactions=1, l_max=2, channels=["total", "difference"]).eval()
for parameter in model.parameters():
    parameter.data.add_(0.02 * torch.randn_like(parameter))
for atoms in (molecule("H2O"), bulk("NaCl", "rocksalt", a=5.6)):
    encoded = EncodedStructure(model, atoms)
    points = torch.rand(70, 3) * 4 - 1
    with torch.no_grad():
        expected = model.decode_points(encoded.states, encoded.structures, points)
        weights = model.weights()
        found = model.basis.squares_on_gpu(encoded.states.coefficients, encoded.structures, points, *weights)
    print(float((found - expected).abs().max() / expected.abs().max()))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton 3.7: make triton")
def test_the_kernel_gives_what_blocks_on_the_cpu_give() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    errors = [float(line) for line in run.stdout.split()]
    assert len(errors) == 2
    assert max(errors) < 1e-4
