"""Train a model on a density store, into a run directory with its full record."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint

from deepdft.checkpoint import (
    FREE_ATOMS,
    build_model,
    load_checkpoint,
    load_weights,
    model_name,
    read_checkpoint_file,
)
from deepdft.data.datamodule import DensityDataModule
from deepdft.data.electrons import valences
from deepdft.files import write_json
from deepdft.models.base import DensityModel
from deepdft.models.with_occupancies import WithOccupancies
from deepdft.runs.command import command, sweep
from deepdft.runs.compose import from_settings
from deepdft.runs.data_checks import warn_of_free_atom_valences, warn_of_new_elements
from deepdft.runs.directory import is_first_process, new_directory, only_writer, refuse_training_run
from deepdft.runs.fit import fit
from deepdft.runs.loggers import make_loggers
from deepdft.runs.occupancies import with_partial_waves
from deepdft.runs.precision import matmul_precision
from deepdft.runs.record import write_record
from deepdft.runs.renamed import rename_keys
from deepdft.runs.resume import (
    checkpoint_to_resume,
    keep_overrides,
    refuse_changes,
    refuse_other_data,
    stored_config,
    summary_if_finished,
    with_values_of_run,
)
from deepdft.runs.run import Run
from deepdft.runs.slurm import cluster_environment
from deepdft.runs.trainer_settings import check_optimizer, check_trainer
from deepdft.runs.trust import add_trust_record
from deepdft.runs.wandb import one_wandb_run, wandb_errors
from deepdft.training.loggers import keep_metrics_until
from deepdft.training.module import DensityModule
from deepdft.training.resumable import ResumableEarlyStopping
from deepdft.training.time_limit import TimeLimit

__all__ = ["train"]

PREPARATION_STEPS = 100
"""Training steps whose points prepare a model: by default 200 structures of 1000 points."""


def train(config: Mapping[str, Any] | DictConfig) -> Run:
    """Train a model, into a run directory with its full record.

    Args:
        config: from `deepdft.compose("train", [...])`, or a dictionary of what differs from the defaults, such as
            `{"data": {"root": "data/mine"}, "model": "painn", "trainer": {"max_steps": 2000}}`. The run directory is
            `run_dir`, by default a new folder below runs/train.

    Returns:
        The run, wherever a checkpoint is expected too: `deepdft.evaluate(run)`.

    Raises:
        ValueError: if the config contradicts itself, the data or the run that is resumed.
    """
    cfg = _complete(config)
    run_dir = Path(cfg.run_dir)
    if not cfg.resume:
        refuse_training_run(run_dir, f"resume it with resume={run_dir}, or start a new run with from={run_dir}")
    with only_writer(run_dir, "training"):
        return _train(cfg, run_dir)


def _train(cfg: DictConfig, run_dir: Path) -> Run:
    """Train in a run directory that no other process writes into."""
    stored = stored_config(run_dir) if cfg.resume else None
    one_wandb_run(cfg, stored)
    plain = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    _refuse_sweep_in_one_process(plain)
    check_trainer(plain)
    cluster_environment(plain["trainer"])  # refuses contradictory settings
    if stored is not None:
        refuse_changes(stored, plain, run_dir)
        if summary := summary_if_finished(run_dir, stored, plain):
            return _say_finished(run_dir, summary)
    _quiet()
    pl.seed_everything(plain["seed"], workers=True, verbose=False)
    with matmul_precision(plain["matmul_precision"]), wandb_errors():
        return _run(cfg, plain, run_dir)


def _complete(config: Mapping[str, Any] | DictConfig) -> DictConfig:
    """The whole config, in which only the run directory may be left open."""
    if isinstance(config, DictConfig):
        cfg = config.copy()
    elif isinstance(config.get("trainer"), Mapping) and "_target_" in config["trainer"]:
        cfg = OmegaConf.create(dict(config))
    else:
        cfg = from_settings(config)
    cfg = rename_keys(cfg)
    if (running := command()) is not None:
        cfg = with_values_of_run(cfg, running.overrides.task)
    if OmegaConf.is_missing(cfg.data, "root") or cfg.data.root is None:
        raise ValueError("data.root= is required: give the folder of a store made by deepdft-convert")
    if cfg.run_dir is None:
        cfg.run_dir = str(new_directory("runs/train"))
    return cfg


def _run(cfg: DictConfig, config: dict[str, Any], run_dir: Path) -> Run:
    """Train with a config that has been checked; `config` holds the plain values of `cfg`."""
    data: DensityDataModule = instantiate(cfg.data)
    data.setup("fit")
    split = data.split.names(data.store)
    if cfg.resume:
        refuse_other_data(run_dir, data.store.fingerprint, split)
    module = _module(cfg, config, data)
    if is_first_process():
        warn_of_new_elements(data.store, data.split)
        warn_of_free_atom_valences(module.model, data.store, data.split.train, data.label)
    check_optimizer(module)
    resume_from = _begin(config, run_dir, data, module.model)
    callbacks = _callbacks(cfg)
    timer = TimeLimit(config["trainer"]["max_time"])
    callbacks.append(timer)
    loggers = make_loggers(cfg.logger)
    trainer = _trainer(cfg, callbacks, loggers, cluster_environment(config["trainer"]))
    if len(data.split.validation) < trainer.world_size:
        raise ValueError(
            f"{len(data.split.validation)} validation structures for {trainer.world_size} processes: give data.split "
            "at least one for each, or train on fewer devices"
        )
    if trainer.is_global_zero:
        write_record(config, run_dir, data, split, module, trainer)
    for logger in loggers:
        logger.log_hyperparams(config)

    fit(trainer, module, data, resume_from, run_dir)
    run = Run(run_dir, _best(trainer), trainer.global_step, timer.time_elapsed(), _ended_by(config, callbacks))
    if trainer.is_global_zero:
        add_trust_record(run_dir, data, trainer.strategy.root_device, _own_package(config["model"]))
        write_json(run_dir / "summary.json", run.summary())
        print(f"{run.steps} steps, best validation ε_mae {run.best:.3f} %; run directory {run_dir}")
    return run


def _callbacks(cfg: DictConfig) -> list[pl.Callback]:
    """The callbacks of the config, without the progress bar if the trainer shows none."""
    left_out = () if cfg.trainer.enable_progress_bar else ("progress",)  # Lightning would refuse it
    chosen = [callback for name, callback in cfg.callbacks.items() if name not in left_out]
    return [instantiate(callback) for callback in chosen if callback is not None]


def _trainer(
    cfg: DictConfig, callbacks: list[pl.Callback], loggers: list[Any], environment: ClusterEnvironment | None
) -> pl.Trainer:
    plugins = [instantiate(plugin) for plugin in cfg.trainer.get("plugins") or []]
    if environment is not None:
        plugins.append(environment)
    # given max_time, Trainer would add a timer of its own
    trainer: pl.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers, plugins=plugins, max_time=None)
    return trainer


def _ended_by(config: Mapping[str, Any], callbacks: Sequence[pl.Callback]) -> str:
    """The setting that ended a run, as key=value."""
    for callback in callbacks:
        if isinstance(callback, ResumableEarlyStopping) and callback.has_ended_the_run:
            return f"callbacks.early_stopping.patience={callback.patience}"
        if isinstance(callback, TimeLimit) and callback.was_reached:
            return f"trainer.max_time={config['trainer']['max_time']}"
    return f"trainer.max_steps={config['trainer']['max_steps']}"


def _say_finished(run_dir: Path, summary: Mapping[str, Any]) -> Run:
    """Report that the run is finished, and how to extend it."""
    run = Run.of_summary(run_dir, summary)
    print(
        f"{run_dir} is finished, after {run.steps} steps with a best validation ε_mae of {run.best:.3f} %; to extend "
        f"it, raise what ended it, {run.ended_by}"
    )
    return run


def _refuse_sweep_in_one_process(config: dict[str, Any]) -> None:
    """Refuse a sweep with in-process DDP, which would start the whole sweep again in every child rank."""
    if (job := sweep()) is None:
        return
    launcher = str(job.launcher._target_)
    devices = config["trainer"]["devices"]
    alone = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    if not alone and "submitit" not in launcher:
        raise ValueError(
            "-m with several devices in one process starts the sweep again on every rank: use one process per job "
            "(hydra/launcher=submitit_slurm with tasks_per_node = devices, or torchrun for each job)"
        )


def _begin(config: dict[str, Any], run_dir: Path, data: DensityDataModule, model: DensityModel) -> Path | None:
    """The checkpoint from which a run resumes; without one, prepare the model, or load the weights of `init`."""
    resume_from = _prepare_resume(run_dir, model) if config["resume"] else None
    if resume_from is None and (not config["init"] or model.has_occupancies):
        model.prepare(data.first_steps(PREPARATION_STEPS))
    if resume_from is None and config["init"]:
        _load_weights(model, config["model"], config["init"])
    return resume_from


def _prepare_resume(run_dir: Path, model: DensityModel) -> Path | None:
    """The checkpoint to resume from, after checking that it fits the model; what was logged after it is dropped."""
    checkpoint = checkpoint_to_resume(run_dir)
    step = -1
    if checkpoint is not None:
        content = read_checkpoint_file(checkpoint)
        load_weights(model, content["state_dict"], checkpoint)
        step = content["global_step"]
    if is_first_process():
        (run_dir / "summary.json").unlink(missing_ok=True)  # it is rewritten at the end
        keep_metrics_until(run_dir / "metrics.csv", step)
        if (running := command()) is not None:
            keep_overrides(run_dir, running.overrides.task)
        where = f"after step {step}" if checkpoint else "at the beginning: it had not reached its first checkpoint"
        print(f"resuming {run_dir} {where}")
    return checkpoint


def _module(cfg: DictConfig, config: dict[str, Any], data: DensityDataModule) -> DensityModule:
    """The model with fresh weights, wrapped for training."""
    model_config = with_partial_waves(config["model"], data)
    # what the user's own command line names is trusted, so that models from outside the package can be trained
    model = build_model(model_config, trusted=_own_package(model_config))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            f"{model_name(model_config)} has no trainable parameters: evaluate it as it is, deepdft-evaluate "
            f"checkpoint={FREE_ATOMS}, or train a model on top of it, model=schnet model.baseline=superposition"
        )
    return DensityModule(
        model,
        model_config=model_config,
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
        loss=config["loss"],
        occupancy_weight=config["occupancy_weight"],
        pbc=config["data"]["pbc"],
        info={
            "data": data.store.fingerprint,
            "elements": data.store.elements(data.split.train),
            "kind": data.store.kind.as_dict(),
            "valences": valences(data.store, data.split.train, data.label),
        },
    )


def _own_package(config: Mapping[str, Any]) -> list[str]:
    """The package of a model that the user's own command line names."""
    return [str(config["_target_"]).split(".")[0]]


def _load_weights(model: DensityModel, config: dict[str, Any], path: str) -> None:
    """Start from the weights of another checkpoint of the same architecture."""
    start = load_checkpoint(path, trusted=_own_package(config))
    if isinstance(model, WithOccupancies) and not start.model.has_occupancies:
        model = model.model  # what reads the occupancies is new
    try:
        model.load_state_dict(start.model.state_dict())
    except RuntimeError as error:
        settings = {key: "null" if value is None else value for key, value in start.config.items()}
        wanted = " ".join(f"model.{key}={value}" for key, value in settings.items() if key != "_target_")
        raise ValueError(
            f"init={path}: holds a {start.config['_target_']}, not the configured model; "
            f"choose its model group and {wanted}"
        ) from error


def _best(trainer: pl.Trainer) -> float:
    """The lowest validation error of the run in %; infinite if nothing was validated."""
    callback = trainer.checkpoint_callback
    score = callback.best_model_score if isinstance(callback, ModelCheckpoint) else None
    return float("inf") if score is None else score.item()


def _quiet() -> None:
    """Silence messages of Lightning: tips, hardware, deprecated names of torch, files of the resumed run."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # its successor is too new
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
