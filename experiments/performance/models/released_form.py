"""The arithmetic of the released code, restated in plain torch: the baseline of the benchmark.

Networks per edge instead of per vertex, filters per edge, every probe computed, batches padded and split again, edges
collected in Python probe by probe, CHGCAR text read for every sample. Of our models it takes the weights, so that both
forms must give the same densities, and none of their operations: `authors.py` tells whether it is as fast as the code.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import ase
import numpy as np
import torch
from ase.calculators.vasp import VaspChargeDensity
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from deepdft.models.painn import PaiNN
from deepdft.models.painn import Update as PaiNNUpdate
from deepdft.models.schnet_released import SchNetReleased


@dataclass
class Padded:
    """Structures and probes side by side, padded with zeros."""

    numbers: Tensor  # (B, n_atoms)
    positions: Tensor  # (B, n_atoms, 3)
    probes: Tensor  # (B, n_probes, 3)
    atom_edges: Tensor  # (B, n_edges, 2)
    probe_edges: Tensor  # (B, n_edges, 2)
    sizes: Tensor  # (B, 4) atoms, probes, atom edges, probe edges

    def to(self, device: torch.device | str) -> Padded:
        return Padded(**{name: values.to(device) for name, values in vars(self).items()})


def read_sample(content: bytes, path: str) -> tuple[ase.Atoms, np.ndarray]:
    """A compressed CHGCAR through a file and ASE."""
    with open(path, "wb") as file:
        file.write(zlib.decompress(content))
    density = VaspChargeDensity(path)
    return density.atoms[-1], density.chg[-1]


def sample(atoms: ase.Atoms, density: np.ndarray, n_probes: int, cutoff: float) -> tuple[dict[str, Tensor], Tensor]:
    """Random grid points of one molecule with their edges, and the density there."""
    fractions = np.stack(np.meshgrid(*(np.arange(n) / n for n in density.shape), indexing="ij"), axis=-1)
    grid = fractions @ atoms.cell.array
    chosen = np.unravel_index(np.random.default_rng(0).integers(density.size, size=n_probes), density.shape)
    return graph(atoms, grid[chosen], cutoff), torch.tensor(density[chosen], dtype=torch.float32)


def graph(atoms: ase.Atoms, probes: np.ndarray, cutoff: float) -> dict[str, Tensor]:
    """Edges of a molecule, atom by atom and probe by probe."""
    positions = atoms.get_positions()
    atom_edges, probe_edges = [], []
    for i, position in enumerate(positions):
        near = np.flatnonzero(np.square(positions - position).sum(axis=1) < cutoff**2)
        near = near[near != i]
        atom_edges.append(np.stack([near, np.full_like(near, i)], axis=1))
    for i, position in enumerate(probes):
        near = np.flatnonzero(np.square(positions - position).sum(axis=1) < cutoff**2)
        probe_edges.append(np.stack([near, np.full_like(near, i)], axis=1))
    return {
        "numbers": torch.tensor(atoms.numbers),
        "positions": torch.tensor(positions, dtype=torch.float32),
        "probes": torch.tensor(probes, dtype=torch.float32),
        "atom_edges": torch.tensor(np.concatenate(atom_edges)),
        "probe_edges": torch.tensor(np.concatenate(probe_edges)),
    }


def collate(graphs: list[dict[str, Tensor]]) -> Padded:
    padded = {name: pad_sequence([g[name] for g in graphs], batch_first=True) for name in graphs[0]}
    names = ("numbers", "probes", "atom_edges", "probe_edges")
    return Padded(sizes=torch.tensor([[len(g[name]) for name in names] for g in graphs]), **padded)


def _joined(padded: Tensor, sizes: Tensor) -> Tensor:
    return torch.cat([row[:size] for row, size in zip(padded, sizes.tolist(), strict=True)])


def _flat(batch: Padded) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    atoms, probes, atom_edges, probe_edges = batch.sizes.T
    first_atom = torch.cumsum(atoms, 0) - atoms
    first_probe = torch.cumsum(probes, 0) - probes
    within = batch.atom_edges + first_atom[:, None, None]
    between = batch.probe_edges + torch.stack([first_atom, first_probe], dim=1)[:, None]
    return (
        _joined(batch.numbers, atoms),
        _joined(batch.positions, atoms),
        _joined(batch.probes, probes),
        _joined(within, atom_edges),
        _joined(between, probe_edges),
    )


def _sum(messages: Tensor, edges: Tensor, n: int) -> Tensor:
    return messages.new_zeros(n, *messages.shape[1:]).index_add_(0, edges[:, 1], messages)


def _shifted_softplus(x: Tensor) -> Tensor:
    return functional.softplus(x) - math.log(2.0)


def _network(layers: nn.Sequential, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    return layers[2](activation(layers[0](x)))


def schnet(model: SchNetReleased, batch: Padded) -> Tensor:
    """Densities (n_probes,) of all structures."""
    numbers, positions, probes, atom_edges, probe_edges = _flat(batch)

    def messages(network, senders: Tensor, receivers: Tensor, edges: Tensor, features: tuple) -> Tensor:
        pairs = torch.cat([senders[edges[:, 0]], receivers[edges[:, 1]]], dim=1)
        basis, cutoff = features
        filters = _network(network.filter, basis, _shifted_softplus) * cutoff
        return _sum(network.output[1](_shifted_softplus(network.pair(pairs))) * filters, edges, len(receivers))

    def features(vectors: Tensor) -> tuple[Tensor, Tensor]:
        distances = vectors.norm(dim=1, keepdim=True)
        width, centers = model.radial.basis.width, model.radial.basis.centers
        return torch.exp(-((distances - centers) ** 2) / (2.0 * width**2)), model.radial.soft_cutoff(distances)

    near = features(positions[atom_edges[:, 1]] - positions[atom_edges[:, 0]])
    state, states = model.embedding(numbers), []
    for step in model.atom_steps:
        message = messages(step.message, state, state, atom_edges, near)
        state = state + _network(step.update, message, _shifted_softplus)
        states.append(state)
    far = features(probes[probe_edges[:, 1]] - positions[probe_edges[:, 0]])
    probe = probes.new_zeros(len(probes), model.hidden_size)
    for step, atoms in zip(model.probe_steps, states, strict=True):
        message = messages(step.message, atoms, probe, probe_edges, far)
        gate = torch.sigmoid(_network(step.gate, probe, _shifted_softplus))
        probe = probe * gate + (1 - gate) * _network(step.update, message, _shifted_softplus)
    return _split(_network(model.readout, probe, _shifted_softplus).squeeze(1), batch)


def painn(model: PaiNN, batch: Padded) -> Tensor:
    """Densities (n_probes,) of all structures."""
    numbers, positions, probes, atom_edges, probe_edges = _flat(batch)

    def messages(network, sent: tuple, edges: Tensor, geometry: tuple, n: int) -> tuple[Tensor, Tensor]:
        (scalar, vector), (vectors, distances) = sent, geometry
        filters = network.filter(model.basis(distances)) * model.cosine_cutoff(distances)[:, None]
        a, b, c = (filters * _network(network.gates, scalar, functional.silu)[edges[:, 0]]).chunk(3, dim=1)
        unit = (vectors / distances.clamp_min(1e-12)[:, None])[:, :, None]
        scalars = _sum(scalar[edges[:, 0]] * c, edges, n)
        return scalars, _sum(vector[edges[:, 0]] * a[:, None] + b[:, None] * unit, edges, n)

    def update(network: PaiNNUpdate, scalar: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        u, v = network.u(vector), network.v(vector)
        inputs = torch.cat([scalar, torch.linalg.norm(v, dim=1)], dim=1)
        changes = _network(network.network, inputs, functional.silu).chunk(3, dim=1)
        return scalar + changes[0] + changes[1] * (u * v).sum(dim=1), vector + changes[2][:, None] * u

    def geometry(ends: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        vectors = ends[edges[:, 1]] - positions[edges[:, 0]]
        return vectors, vectors.norm(dim=1)

    scalar = model.embedding(numbers)
    vector = positions.new_zeros(len(numbers), 3, model.hidden_size)
    states, within = [], geometry(positions, atom_edges)
    for step in model.atom_steps:
        ds, dv = messages(step.message, (scalar, vector), atom_edges, within, len(numbers))
        scalar, vector = update(step.update, scalar + ds, vector + dv)
        states.append((scalar, vector))
    scalar = probes.new_zeros(len(probes), model.hidden_size)
    vector = probes.new_zeros(len(probes), 3, model.hidden_size)
    between = geometry(probes, probe_edges)
    for step, atoms in zip(model.probe_steps, states, strict=True):
        ds, dv = messages(step.message, atoms, probe_edges, between, len(probes))
        keep_s, keep_v = torch.sigmoid(_network(step.gate, ds, functional.silu)).chunk(2, dim=1)
        keep_v = keep_v[:, None]
        scalar, vector = scalar * keep_s + (1 - keep_s) * ds, vector * keep_v + (1 - keep_v) * dv
        scalar, vector = update(step.update, scalar, vector)
    return _split(_network(model.readout, scalar, functional.silu).squeeze(1), batch)


def _split(density: Tensor, batch: Padded) -> Tensor:
    """Pad again, as the released code returns densities."""
    return pad_sequence(density.split(batch.sizes[:, 1].tolist()), batch_first=True)
