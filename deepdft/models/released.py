"""Models trained with the released DeepDFT code, converted to models of this package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from deepdft.models.base import DensityModel
from deepdft.models.painn import PaiNN
from deepdft.models.schnet_released import SchNetReleased

__all__ = ["model_from_released", "released_names"]

PAINN = {  # our name → released name; {t} is the interaction step
    "embedding": "atom_model.atom_embeddings",
    "atom_steps.{t}.message.filter": "atom_model.interactions.{t}.filter_layer",
    "atom_steps.{t}.message.gates": "atom_model.interactions.{t}.scalar_message_mlp",
    "atom_steps.{t}.update.u": "atom_model.scalar_vector_update.{t}.linearU",
    "atom_steps.{t}.update.v": "atom_model.scalar_vector_update.{t}.linearV",
    "atom_steps.{t}.update.network": "atom_model.scalar_vector_update.{t}.combined_mlp",
    "probe_steps.{t}.message.filter": "probe_model.message_layers.{t}.filter_layer",
    "probe_steps.{t}.message.gates": "probe_model.message_layers.{t}.scalar_message_mlp",
    "probe_steps.{t}.gate": "probe_model.message_layers.{t}.update_gate_mlp",
    "probe_steps.{t}.update.u": "probe_model.scalar_vector_update.{t}.linearU",
    "probe_steps.{t}.update.v": "probe_model.scalar_vector_update.{t}.linearV",
    "probe_steps.{t}.update.network": "probe_model.scalar_vector_update.{t}.combined_mlp",
    "readout": "probe_model.readout_function",
}
_ATOM_MESSAGE = "atom_model.interactions.{t}.message_sum_module.message_function"
_PROBE_MESSAGE = "probe_model.messagesum_layers.{t}.message_function"
SCHNET = {
    "embedding": "atom_model.atom_embeddings",
    "atom_steps.{t}.message.filter": f"{_ATOM_MESSAGE}.msg_function_edge",
    "atom_steps.{t}.message.pair": f"{_ATOM_MESSAGE}.msg_function_node.0",
    "atom_steps.{t}.message.output.1": f"{_ATOM_MESSAGE}.msg_function_node.2",
    "atom_steps.{t}.update": "atom_model.interactions.{t}.state_transition_function",
    "probe_steps.{t}.message.filter": f"{_PROBE_MESSAGE}.msg_function_edge",
    "probe_steps.{t}.message.pair": f"{_PROBE_MESSAGE}.msg_function_node.0",
    "probe_steps.{t}.message.output.1": f"{_PROBE_MESSAGE}.msg_function_node.2",
    "probe_steps.{t}.gate": "probe_model.probe_state_gate_functions.{t}",
    "probe_steps.{t}.update": "probe_model.probe_state_transition_functions.{t}",
    "readout": "probe_model.readout_function",
}


def model_from_released(
    arguments: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> tuple[DensityModel, dict[str, Any], bool | None]:
    """Build a model of this package from what the released code stores.

    Args:
        arguments: content of arguments.json.
        state_dict: entry "model" of best_model.pth.

    Returns:
        The model, its plain config, and the periodic boundaries it was trained with: False where `ignore_pbc` was
        set, else None (as the structure has them).

    Raises:
        ValueError: if an argument is missing or makes no sense, or weights are missing, unknown or of another shape.
    """
    table, cls = (PAINN, PaiNN) if arguments.get("use_painn_model", False) else (SCHNET, SchNetReleased)
    try:
        hidden_size, n_interactions = int(arguments["node_size"]), int(arguments["num_interactions"])
        cutoff = float(arguments["cutoff"])
    except KeyError as error:
        raise ValueError(f"the arguments lack {error}; expected node_size, num_interactions and cutoff") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"node_size, num_interactions and cutoff are numbers: {error}") from error
    _refuse_other_sizes(hidden_size, n_interactions, state_dict, table)
    model = cls(hidden_size=hidden_size, n_interactions=n_interactions, cutoff=cutoff)
    names = released_names(model.state_dict(), table)
    missing, unexpected = set(names.values()) - set(state_dict), set(state_dict) - set(names.values())
    if missing or unexpected:
        raise ValueError(
            f"weights of a {cls.__name__} with num_interactions={n_interactions} were expected; "
            f"missing: {_listed(missing)}; unexpected: {_listed(unexpected)}"
        )
    weights = {ours: state_dict[released] for ours, released in names.items()}
    for ours, wanted in model.state_dict().items():
        if weights[ours].shape != wanted.shape:
            raise ValueError(
                f"{names[ours]} has shape {tuple(weights[ours].shape)}, expected {tuple(wanted.shape)} "
                f"for node_size={hidden_size}"
            )
    model.load_state_dict(weights)
    config = {
        "_target_": f"{cls.__module__}.{cls.__qualname__}",
        "hidden_size": hidden_size,
        "n_interactions": n_interactions,
        "cutoff": cutoff,
    }
    return model, config, False if arguments.get("ignore_pbc", False) else None


def _refuse_other_sizes(
    hidden_size: int, n_interactions: int, state_dict: Mapping[str, Tensor], table: Mapping[str, str]
) -> None:
    """Refuse sizes that are not those of the weights, before a model of that size is made.

    Raises:
        ValueError: naming the argument.
    """
    embedding = f"{table['embedding']}.weight"
    if embedding in state_dict and state_dict[embedding].shape[-1:] != (hidden_size,):
        raise ValueError(
            f"{embedding} has shape {tuple(state_dict[embedding].shape)}, expected {hidden_size} columns for "
            f"node_size={hidden_size}"
        )
    if n_interactions > len(state_dict):
        raise ValueError(f"num_interactions={n_interactions}, but there are {len(state_dict)} arrays of weights")


def released_names(names: Iterable[str], table: Mapping[str, str]) -> dict[str, str]:
    """The released name of each of our weights; `table` is PAINN or SCHNET."""
    return {name: _released_name(name, table) for name in names}


def _released_name(name: str, table: Mapping[str, str]) -> str:
    found = re.search(r"_steps\.(\d+)\.", name)
    step = found.group(1) if found else ""
    general = re.sub(r"_steps\.\d+\.", "_steps.{t}.", name)
    prefix = next(prefix for prefix in table if general.startswith(prefix + "."))
    return table[prefix].replace("{t}", step) + general.removeprefix(prefix)


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if shown else "none"
