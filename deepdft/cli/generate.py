"""deepdft-generate: structures → densities by DFT → a density store."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_texts
from deepdft.runs.compose import with_open_mappings

__all__ = ["main"]


@one_line_errors
def main() -> None:
    """Entry point of deepdft-generate."""
    sys.argv[1:] = with_open_mappings(quote_texts(sys.argv[1:], "output", "split", lists=["structures"]))
    _run()


@hydra_command("generate", interrupted="the same command; structures that are done are kept")
def _run(cfg: DictConfig) -> None:
    from deepdft.runs.generate import generate_store

    generate_store(cfg)


if __name__ == "__main__":
    main()
