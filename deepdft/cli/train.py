"""deepdft-train: train a model on a density store."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from deepdft.cli.app import hydra_command, one_line_errors
from deepdft.cli.arguments import quote_texts
from deepdft.errors import warnings_as_lines
from deepdft.evaluation.process_count import n_processes
from deepdft.runs.compose import with_own_model
from deepdft.runs.directory import named_folder, only_writer, refuse_training_run, with_run_dir
from deepdft.runs.resume import with_stored_overrides

__all__ = ["main"]


@one_line_errors
def main() -> None:
    """Entry point of deepdft-train."""
    # argparse takes the overrides as one group: flags go before them
    flags = [argument for argument in sys.argv[1:] if argument in ("-m", "--multirun")]
    rest = [argument for argument in sys.argv[1:] if argument not in flags]
    if flags and (of_one := [a for a in rest if a.startswith(("resume=", "run_dir="))]):
        raise ValueError(f"{of_one[0]}: belongs to a single run; a sweep (-m) makes new ones below hydra.sweep.dir=…")
    with warnings_as_lines():
        rest = with_stored_overrides(with_run_dir(rest))
    folder, resumed = (named_folder(rest, key) for key in ("hydra.run.dir", "resume"))
    if resumed and folder and folder.resolve() != resumed.resolve():
        raise ValueError(f"resume={resumed}: a run is resumed where it lies; leave out run_dir={folder}")
    if not resumed and folder is None and not flags and n_processes() > 1:
        raise ValueError("several processes need one folder: give run_dir=<folder>")
    texts = ("resume", "from", "init", "data.root", "hydra.run.dir", "hydra.sweep.dir")
    sys.argv[1:] = quote_texts([*flags, *with_own_model(rest)], *texts)
    with only_writer(resumed or folder, "training"):  # Hydra writes there too
        if not resumed:
            refuse_training_run(folder, f"resume it with resume={folder}, or give another run_dir")
        _run()


@hydra_command("train")
def _run(cfg: DictConfig) -> float:
    from deepdft.runs.train import train

    return train(cfg).best


if __name__ == "__main__":
    main()
