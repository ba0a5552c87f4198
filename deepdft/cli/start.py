"""deepdft-start: start a DFT calculation from a predicted density."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from omegaconf import DictConfig

from deepdft import bundled
from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_texts
from deepdft.dft.starts import start_quantum_espresso
from deepdft.inference.predictor import Predictor

__all__ = ["main"]


@one_line_errors
def main() -> None:
    """Entry point of deepdft-start."""
    sys.argv[1:] = quote_texts(sys.argv[1:], "input", "output", "checkpoint")
    _run()


@hydra_command("start")
def _run(cfg: DictConfig) -> None:
    if cfg.engine != "qe":
        raise ValueError(f"engine={cfg.engine}: expected qe (Quantum ESPRESSO's pw.x)")
    if shutil.which(str(cfg.command)) is None:
        raise ModuleNotFoundError(f"{cfg.command} is not on PATH: run `make qe`, or give command=<pw.x>")
    checkpoint = bundled.MODEL if cfg.checkpoint is None else Path(str(cfg.checkpoint)).expanduser()
    if cfg.checkpoint is None:
        print("no checkpoint given: the bundled model, for small molecules of H, C, N, O, F, P, S and Cl (PBE)")
    path = Path(str(cfg.input)).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"input={path}: no such file")
    predictor = Predictor.from_checkpoint(checkpoint, device=cfg.device, trusted=tuple(cfg.trusted))
    start = start_quantum_espresso(path, predictor, Path(str(cfg.output)).expanduser(), command=str(cfg.command))
    print(f"density: {start.how}; {start.n_electrons:.4f} electrons (scaled by {start.scaled_by:.6f})")
    print(f"changed in {start.input}:")
    for line in start.changed:
        print(f"  {line}")
    print(f"run it there: cd {start.input.parent} && {cfg.command} -in {start.input.name}")


if __name__ == "__main__":
    main()
