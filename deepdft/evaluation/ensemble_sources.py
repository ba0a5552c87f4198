"""Ensembles of densities: K densities of each structure on one grid, from a store, from K stores or from K files."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepdft.data.index import INDEX
from deepdft.data.store import DensityStore
from deepdft.density import DensityGrid
from deepdft.dft.functionals import PAPER
from deepdft.evaluation.ensemble_structure import EnsembleStructure, on_one_grid
from deepdft.io.archive import Member, members
from deepdft.io.compression import split_compression

__all__ = ["Ensemble", "FileEnsemble", "StoreEnsemble", "open_densities"]


class StoreEnsemble:
    """The densities of one store with K labels, or of K stores whose structures have the same names.

    Args:
        sources: label → store, and the label of the density in that store.

    Raises:
        ValueError: if there are fewer than two densities, or no structure has all of them.
    """

    def __init__(self, sources: Mapping[str, tuple[DensityStore, str]]) -> None:
        _several(list(sources), "the store" if not sources else str(next(iter(sources.values()))[0].root))
        self.sources = dict(sources)
        self.labels = list(sources)
        self.names, self.incomplete = _common(
            {label: store.names for label, (store, _) in sources.items()},
            {label: str(store.root) for label, (store, _) in sources.items()},
        )

    @classmethod
    def of_store(cls, store: DensityStore) -> StoreEnsemble:
        """The densities of a store: all of them, or the paper's eight functionals if a store has these and more.

        ε_mad stays comparable so: a ninth functional in a store does not change it. Other sets are named one by one
        (`open_densities`).

        Raises:
            ValueError: if there is only one density for each structure.
        """
        labels = PAPER if set(PAPER) <= set(store.labels) else store.labels
        return cls({label: (store, label) for label in labels})

    @property
    def fingerprint(self) -> str:
        """Hash of names, labels and shards."""
        return _digest([[label, store.fingerprint, own] for label, (store, own) in self.sources.items()])

    def structure(self, i: int) -> EnsembleStructure:
        """Structure `i`, whose densities are not read yet."""
        name = self.names[i]
        found = {label: self._open(name, label) for label in self.labels}
        return on_one_grid(name, found)

    def _open(self, name: str, label: str) -> EnsembleStructure:
        store, own = self.sources[label]
        i = store.index_of(name)
        return EnsembleStructure(
            name=name,
            atoms=store.atoms(i),
            origin=store.origin(i),
            shape=store.shape(i),
            planes={label: lambda planes: store.planes(i, planes, own)},
        )

    def density(self, i: int, label: str | None = None) -> DensityGrid:
        """Structure `i` with one of its densities; None is the first label."""
        store, own = self.sources[label or self.labels[0]]
        return store.density(store.index_of(self.names[i]), label=own)


class FileEnsemble:
    """The densities of K files of one structure, or of K folders or tars of files with the same names.

    Args:
        sources: label → file, folder, tar, or list of tars, as `deepdft.io.archive.members` takes them.

    Raises:
        ValueError: if there are fewer than two densities, or no structure has all of them.
    """

    def __init__(self, sources: Mapping[str, Path]) -> None:
        _several(list(sources), "densities")
        found = {label: members(path) for label, path in sources.items()}
        self.labels = list(sources)
        if all(len(files) == 1 for files in found.values()):  # one structure, whatever the names of the files
            name = found[self.labels[0]][0].name
            self._members = {label: {name: files[0]} for label, files in found.items()}
        else:
            self._members = {label: _by_name(files, sources[label]) for label, files in found.items()}
        self.names, self.incomplete = _common(
            {label: list(files) for label, files in self._members.items()},
            {label: str(path) for label, path in sources.items()},
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the files' paths, sizes and times."""
        return _digest(
            [
                [label, name, str(file.source.resolve()), file.offset, file.size, file.source.stat().st_mtime_ns]
                for label, files in self._members.items()
                for name, file in files.items()
            ]
        )

    def structure(self, i: int) -> EnsembleStructure:
        """Structure `i`; its files are read one after the other into temporary files, not into memory."""
        name = self.names[i]
        found = {}
        for label in self.labels:
            density = self.density(i, label)
            found[label] = EnsembleStructure(
                name=name,
                atoms=density.atoms,
                origin=density.origin,
                shape=density.shape,
                planes={label: _on_disk(density.values).__getitem__},
            )
        return on_one_grid(name, found)

    def density(self, i: int, label: str | None = None) -> DensityGrid:
        """Structure `i` with one of its densities; None is the first label."""
        return self._members[label or self.labels[0]][self.names[i]].read()


Ensemble = StoreEnsemble | FileEnsemble
"""K densities of each of some structures: `labels` of the densities, `names` of the structures that have all of them,
`incomplete` those that lack some and are left out."""


def open_densities(specs: Sequence[str]) -> Ensemble:
    """An ensemble of K sources, all stores or all files.

    Args:
        specs: "LABEL=PATH" each; a store with several densities must have one of that label.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if there are fewer than two, labels are missing or repeated, or stores and files are mixed.
    """
    sources: dict[str, Path] = {}
    for spec in specs:
        label, equals, path = str(spec).partition("=")
        if not (label.strip() and equals and path.strip()):
            raise ValueError(f"densities: {spec!r}: expected LABEL=PATH, as PBE=pbe/CHGCAR")
        if label.strip() in sources:
            raise ValueError(f"densities: two are labelled {label.strip()}; expected a name of its own for each")
        sources[label.strip()] = Path(path.strip()).expanduser()
    stores = [label for label, path in sources.items() if (path / INDEX).is_file()]
    if stores and len(stores) < len(sources):
        file = next(path for label, path in sources.items() if label not in stores)
        raise ValueError(
            f"densities: {sources[stores[0]]} is a store and {file} is not; expected all stores or all files "
            "(deepdft-convert makes a store of files)"
        )
    if not stores:
        _refuse_same({label: str(path) for label, path in sources.items()})
        return FileEnsemble(sources)
    opened = {path: DensityStore(path) for path in dict.fromkeys(sources.values())}
    chosen = {label: (opened[path], _label_in(opened[path], label)) for label, path in sources.items()}
    _refuse_same({label: f"{store.root} ({own})" for label, (store, own) in chosen.items()})
    return StoreEnsemble(chosen)


def _refuse_same(places: Mapping[str, str]) -> None:
    """Refuse one density under two labels, which would make the spread too small."""
    labels = list(places)
    for i, label in enumerate(labels):
        for other in labels[:i]:
            if places[label] == places[other]:
                raise ValueError(f"densities: {other} and {label} are both {places[label]}; expected different ones")


def _label_in(store: DensityStore, label: str) -> str:
    """The label of a store's only density, or the requested label."""
    if len(store.labels) == 1:
        return store.labels[0]
    if label not in store.labels:
        raise ValueError(
            f"densities: {store.root} has no density labelled {label}; expected one of {', '.join(store.labels)}"
        )
    return label


def _several(labels: Sequence[str], where: str) -> None:
    if len(labels) < 2:
        raise ValueError(
            f"{where}: a spread needs at least two densities of each structure, found {', '.join(labels) or 'none'}; "
            "give a store with several, or densities=[PBE=a/CHGCAR,RPBE=b/CHGCAR]"
        )


def _common(names: Mapping[str, Sequence[str]], places: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Names that occur under all labels, in the order of the first, and those that some labels lack."""
    everywhere = set.intersection(*(set(found) for found in names.values()))
    first = next(iter(names))
    if not everywhere:
        other = next(label for label in names if not set(names[label]) & set(names[first]))
        raise ValueError(
            f"{places[other]}: none of its structures, such as {_example(names[other])}, is among those of "
            f"{places[first]}, such as {_example(names[first])}; the same structure has the same name in all"
        )
    anywhere = dict.fromkeys(name for found in names.values() for name in found)
    return [name for name in names[first] if name in everywhere], [name for name in anywhere if name not in everywhere]


def _example(names: Sequence[str]) -> str:
    return repr(names[0]) if names else "nothing"


def _on_disk(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """A copy in a temporary file, mapped into memory; the file is removed with the mapping."""
    with tempfile.TemporaryFile(prefix="deepdft-") as file:
        mapped = np.memmap(file, dtype=values.dtype, mode="w+", shape=values.shape)
    mapped[...] = values
    return mapped


def _by_name(files: Sequence[Member], source: Path) -> dict[str, Member]:
    """Files by their names without compression suffix."""
    named = {split_compression(file.name)[0]: file for file in files}
    if len(named) < len(files):
        names = [split_compression(file.name)[0] for file in files]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{source}: {twice!r} is there twice; the densities of a structure are found by its name")
    return named


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
