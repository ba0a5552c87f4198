"""deepdft-view: a page on this machine that shows densities."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from deepdft import bundled
from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_texts

__all__ = ["main"]

BUNDLED = "bundled model for small molecules of H, C, N, O, F, P, S and Cl (PBE)"


@one_line_errors
def main() -> None:
    """Entry point of deepdft-view."""
    sys.argv[1:] = quote_texts(sys.argv[1:], "structure", "checkpoint", "host")
    _run()


@hydra_command("view", interrupted="start deepdft-view again")
def _run(cfg: DictConfig) -> None:
    from deepdft.inference.predictor import Predictor
    from deepdft.viewer.server import serve

    if not isinstance(cfg.port, int) or not 0 <= cfg.port < 65536:
        raise ValueError(f"port={cfg.port}: expected a number from 0 (any free one) to 65535")
    is_bundled = cfg.checkpoint in (None, "bundled")
    predictor = Predictor.from_checkpoint(
        str(bundled.MODEL) if is_bundled else str(cfg.checkpoint), device=cfg.device, trusted=tuple(cfg.trusted)
    )
    serve(
        predictor,
        model_name=BUNDLED if is_bundled else str(cfg.checkpoint),
        host=str(cfg.host),
        port=cfg.port,
        announce=lambda address: print(f"open {address} in a browser; Ctrl-C ends the page", flush=True),
        structure="" if cfg.structure is None else str(cfg.structure),
    )


if __name__ == "__main__":
    main()
