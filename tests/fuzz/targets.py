"""The kinds of files that are damaged, with oracles of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ase
import numpy as np
import torch
from harness import Content, Target

import deepdft
from deepdft import bundled
from deepdft.checkpoint import load_checkpoint
from deepdft.density import DensityGrid

RNG = np.random.default_rng(0)
CELL = np.array([[4.0, 0, 0], [1.0, 3.5, 0], [-0.5, 0.5, 5.0]])
SYMBOL = re.compile(r"[A-Z][a-z]?")
BOHR = 0.5291772105638411  # as ASE has it


def a_density(*, channels: bool = False, occupancies: bool = False) -> DensityGrid:
    """A small density whose values span orders of magnitude and signs."""
    rng = np.random.default_rng(0)
    atoms = ase.Atoms("CH2", [[0.1, 0.2, 0.3], [1.0, 1.1, 0.2], [2.0, 0.4, 3.0]], cell=CELL, pbc=True)
    values = rng.random((3, 4, 5)) * 10.0 ** rng.integers(-6, 2, (3, 4, 5))
    values = values.astype(np.float32).astype(np.float64)
    others = {"difference": values * rng.choice([-0.5, 0.5], values.shape)} if channels else {}
    arrays = {"occupancies": rng.normal(size=(3, 7)).round(6)} if occupancies else {}
    return DensityGrid(values, atoms, channels=others, atom_arrays=arrays)


def content_of(density: DensityGrid) -> Content:
    """What is compared of a density; a comment may be anything."""
    return {
        "numbers": density.atoms.numbers,
        "positions": density.atoms.positions - density.origin,
        "cell": density.atoms.cell.array,
        "values": density.values,
        **{f"channel {k}": values for k, values in enumerate(density.channels.values(), start=1)},  # names are comments
        **{f"array {name}": rows for name, rows in density.atom_arrays.items()},
    }


class DensityFile(Target):
    """A file that `read_density` reads."""

    def __init__(self, name: str, **kinds: bool) -> None:
        self.name, self.kinds = name, kinds
        self.text = not name.endswith((".h5", ".gz", ".zz", ".lz4", ".bz2", ".xz", ".zst"))

    def make(self, folder: Path) -> list[Path]:
        folder.mkdir()
        deepdft.write_density(folder / self.name, a_density(**self.kinds))
        return [folder / self.name]

    def read(self, folder: Path) -> Content:
        return content_of(deepdft.read_density(folder / self.name))

    def oracle(self, damaged: Path, original: Content) -> Content | None:
        if not self.text:
            return original
        try:
            text = damaged.read_bytes().decode("latin-1")
            return naive_cube(text) if self.name.endswith(".cube") else naive_chgcar(text)
        except (ValueError, IndexError, KeyError, OverflowError):
            return None


class ChgcarJson(DensityFile):
    """The JSON in which the Materials Project gives out densities."""

    def make(self, folder: Path) -> list[Path]:
        folder.mkdir()
        density = a_density(channels=True, occupancies=True)
        box = abs(np.linalg.det(CELL))
        fields = {"total": density.values, "diff": density.channels["difference"]}
        sites = [
            {"species": [{"element": symbol, "occu": 1}], "abc": place.tolist()}
            for symbol, place in zip(density.atoms.symbols, density.atoms.get_scaled_positions(), strict=True)
        ]
        rows = density.atom_arrays["occupancies"]
        content = {
            "@class": "Chgcar",
            "poscar": {"structure": {"lattice": {"matrix": CELL.tolist()}, "sites": sites}},
            "data": {name: {"@class": "array", "data": (values * box).tolist()} for name, values in fields.items()},
            "data_aug": {"total": {str(i): {"data": row.tolist()} for i, row in enumerate(rows, start=1)}},
        }
        (folder / self.name).write_text(json.dumps(content, indent=0))
        return [folder / self.name]

    def oracle(self, damaged: Path, original: Content) -> Content | None:
        try:
            return naive_json(json.loads(damaged.read_bytes().decode("utf-8")))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            return None


def naive_json(content: dict) -> Content:
    """What a Chgcar of pymatgen says, looked up entry by entry."""
    structure = content["poscar"]["structure"]
    cell = np.array(structure["lattice"]["matrix"], dtype=float)
    symbols = [SYMBOL.match(site["species"][0]["element"])[0] for site in structure["sites"]]
    places = np.array([site["abc"] for site in structure["sites"]], dtype=float)
    found = {"numbers": ase.Atoms(symbols).numbers, "positions": places @ cell, "cell": cell}
    for ours, theirs in (("values", "total"), ("channel 1", "diff")):
        if theirs in content["data"]:
            values = content["data"][theirs]
            found[ours] = np.array(values["data"] if isinstance(values, dict) else values, dtype=float)
            found[ours] /= abs(np.linalg.det(cell))
    sets = (content.get("data_aug") or {}).get("total")
    if sets and {int(atom) for atom in sets} == set(range(1, len(symbols) + 1)):
        lists = {int(atom): row["data"] if isinstance(row, dict) else row for atom, row in sets.items()}
        rows = np.full((len(symbols), max(map(len, lists.values()))), np.nan)
        for atom, row in lists.items():
            rows[atom - 1, : len(row)] = row
        found["array occupancies"] = rows
    return found


def separated(text: str) -> list[str]:
    """Words, also where Fortran has left no blank before a negative number."""
    return re.sub(r"(?<=\d)-(?=\d*\.\d)", " -", text).split()


def numbers_of(words: list[str]) -> list[float]:
    """Words as numbers, as Fortran writes them: with D for E, and without E before an exponent of three digits."""
    words = [re.sub(r"(\.\d+)([+-][1-9]\d\d)$", r"\1E\2", word) for word in words]
    found = [float(re.sub(r"(?<=[\d.])[Dd](?=[+-]?\d)", "E", word)) for word in words]
    if any("_" in word for word in words):
        raise ValueError(words)
    return found


class Tokens:
    """Lines of a text, one after another."""

    def __init__(self, text: str) -> None:
        self.lines = text.replace("\r\n", "\n").split("\n")
        self.at = 0

    def next(self) -> str:
        line = self.lines[self.at]
        self.at += 1
        return line


def naive_chgcar(text: str) -> Content:
    """What a CHGCAR says, read word by word with Python's own float."""
    lines = Tokens(text)
    lines.next()
    content = naive_header(lines)
    n_atoms = len(content["numbers"])
    while not (line := lines.next()).split():
        pass
    shape = tuple(int(word) for word in line.split())
    for values, rows in (("values", "array occupancies"), ("channel 1", "array occupancies_difference")):
        content[values] = naive_values(lines, shape) / abs(np.linalg.det(content["cell"]))
        if (found := naive_occupancies(lines, n_atoms)) is not None:
            content[rows] = found
        while lines.at < len(lines.lines) and not lines.lines[lines.at].split():
            lines.at += 1
        if lines.at >= len(lines.lines):
            return content
        while tuple(lines.next().split()) != tuple(map(str, shape)):  # magnetic moments
            pass
    raise ValueError("more than two blocks")


def naive_header(lines: Tokens) -> Content:
    """Numbers, positions and cell."""
    scale = numbers_of(lines.next().split())
    cell = np.array([numbers_of(lines.next().split()) for _ in range(3)])
    factors = np.array(scale if len(scale) == 3 else scale * 3)
    if scale[0] < 0:
        factors = np.full(3, (-scale[0] / abs(np.linalg.det(cell))) ** (1 / 3))
    names, words = [], lines.next().split()
    while not all(word.isdigit() for word in words):  # more than one line of symbols
        names += words
        words = lines.next().split()
    counts = [int(word) for word in words]
    while len(counts) < len(names):
        counts += [int(word) for word in lines.next().split()]
    symbols = [{"r": "Zr", "X": "Xe"}.get(name) or SYMBOL.match(name)[0] for name in names]
    kind = lines.next().strip()
    if kind[0] in "Ss":
        kind = lines.next().strip()
    rows = np.array([numbers_of(lines.next().split()[:3]) for _ in range(sum(counts))]).reshape(-1, 3)
    return {
        "numbers": ase.Atoms([s for s, n in zip(symbols, counts, strict=True) for _ in range(n)]).numbers,
        "positions": rows @ (cell * factors) if kind[0] in "Dd" else rows * factors,
        "cell": cell * factors,
    }


def naive_values(lines: Tokens, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a block (nx, ny, nz), whose last line may be filled with zeros."""
    n_values = int(np.prod(shape))
    words: list[str] = []
    while len(words) < n_values:
        words += separated(lines.next())
    if any(numbers_of(words[n_values:])):
        raise ValueError("more values")
    return np.array(numbers_of(words[:n_values])).reshape(shape[::-1]).T


def naive_occupancies(lines: Tokens, n_atoms: int) -> np.ndarray | None:
    """The sets of occupancies that follow."""
    found: dict[int, list[float]] = {}
    while lines.at < len(lines.lines) and lines.lines[lines.at].startswith("augmentation occupancies"):
        atom, count = (int(word) for word in lines.next()[len("augmentation occupancies") :].split())
        words: list[str] = []
        while len(words) < count:
            words += lines.next().split()
        if len(words) > count or atom in found or atom > n_atoms or atom < max(found, default=1):
            raise ValueError("occupancies")
        found[atom] = numbers_of(words)
    if not found:
        return None
    rows = np.full((n_atoms, max(map(len, found.values()))), np.nan)
    for atom, numbers in found.items():
        rows[atom - 1, : len(numbers)] = numbers
    return rows


def naive_cube(text: str) -> Content:
    """What a cube says, read word by word with Python's own float."""
    lines = Tokens(text)
    lines.next()
    lines.next()
    head = lines.next().split()
    n_atoms, origin = int(head[0]), np.array(numbers_of(head[1:4]))
    n_fields = int(head[4]) if len(head) > 4 else 1
    axes = [numbers_of(lines.next().split()[:4]) for _ in range(3)]
    counts = [int(axis[0]) for axis in axes]
    unit = BOHR if counts[0] > 0 else 1.0
    shape = [abs(count) for count in counts]
    cell = np.array([axis[1:] for axis in axes]) * unit * np.array(shape)[:, None]
    atoms = np.array([numbers_of(lines.next().split()[:5]) for _ in range(abs(n_atoms))]).reshape(-1, 5)
    words = separated(" ".join(lines.lines[lines.at :]))
    if n_atoms < 0:
        n_fields = int(words[0])
        words = words[1 + n_fields :]
    values = np.array(numbers_of(words)).reshape(*shape, n_fields) / BOHR**3
    content: Content = {
        "numbers": atoms[:, 0].astype(int),
        "positions": (atoms[:, 2:] - origin) * unit,
        "cell": cell,
        "values": values[..., 0],
    }
    return content | {f"channel {k}": values[..., k] for k in range(1, n_fields)}


class StoreFiles(Target):
    """Shards and JSON of a store, which have checksums."""

    def __init__(self, compression: str, files: str) -> None:
        self.compression, self.files = compression, files
        self.name = f"{files} of a store ({compression})"
        self.text = files.endswith(".json")

    def make(self, folder: Path) -> list[Path]:
        from deepdft.data.convert import convert

        source = folder.parent / f"source-{self.compression}"
        source.mkdir()
        for number in range(4):
            density = a_density(channels=True, occupancies=True)
            shifted = DensityGrid(
                density.values + number, density.atoms, channels=density.channels, atom_arrays=density.atom_arrays
            )
            deepdft.write_density(source / f"{number}.CHGCAR", shifted)
        split = {"validation": 1, "test": 1, "seed": 0}
        convert(source, folder, compression=self.compression, split=split, shard_size=5000)
        return sorted(folder.glob(self.files))

    def read(self, folder: Path) -> Content:
        store = deepdft.Store(folder)
        content: Content = {"names": list(store.names)}
        for index, name in enumerate(store.names):
            content[name] = content_of(store.density(index))
        if self.files == "split.json":
            from deepdft.data.splits import load_split

            split = load_split(None, store)
            content |= {part: list(getattr(split, part)) for part in ("train", "validation", "test")}
        return content


class CheckpointFile(Target):
    """A checkpoint, read with its model and its weights."""

    name = "checkpoint"

    def make(self, folder: Path) -> list[Path]:
        from deepdft.checkpoint import Checkpoint, save_checkpoint
        from deepdft.models.schnet import SchNet

        folder.mkdir()
        config = {"_target_": "deepdft.models.schnet.SchNet", "hidden_size": 4, "n_interactions": 1, "cutoff": 3.0}
        model = SchNet(**{key: value for key, value in config.items() if key != "_target_"})
        save_checkpoint(folder / "x.ckpt", Checkpoint(model, config, None, {"elements": [1, 8], "step": 7}))
        return [folder / "x.ckpt"]

    def read(self, folder: Path) -> Content:
        found = load_checkpoint(folder / "x.ckpt")
        weights = {name: weight.detach().numpy() for name, weight in found.model.state_dict().items()}
        return {"config": json.dumps(found.config, sort_keys=True), "pbc": found.pbc, **weights}


class ReleasedModel(CheckpointFile):
    """The weights of a released DeepDFT folder."""

    name = "released"

    def make(self, folder: Path) -> list[Path]:
        from deepdft.models.released import SCHNET, released_names
        from deepdft.models.schnet_released import SchNetReleased

        folder.mkdir()
        model = SchNetReleased(hidden_size=4, n_interactions=1, cutoff=3.0)
        weights = model.state_dict()
        names = released_names(weights, SCHNET)
        torch.save({"model": {names[ours]: weights[ours] for ours in names}, "step": 7}, folder / "best_model.pth")
        arguments = {"node_size": 4, "num_interactions": 1, "cutoff": 3.0}
        (folder / "arguments.json").write_text(json.dumps(arguments))
        return [folder / "best_model.pth"]

    def read(self, folder: Path) -> Content:
        found = load_checkpoint(folder)
        weights = {name: weight.detach().numpy() for name, weight in found.model.state_dict().items()}
        return {"config": json.dumps(found.config, sort_keys=True), "pbc": found.pbc, **weights}


class IndexWithoutChecksum(Target):
    """The index of a store of version 1: what it says is believed where it can be true."""

    name = "index.json of version 1"
    text = True

    def make(self, folder: Path) -> list[Path]:
        import shutil

        shutil.copytree(bundled.path("qm9_demo_xc"), folder)
        return [folder / "index.json"]

    def read(self, folder: Path) -> Content:
        store = deepdft.Store(folder)
        return {"names": list(store.names), "formulas": list(store.formulas), "values": store.density(0).values}

    def oracle(self, damaged: Path, original: Content) -> Content | None:
        try:
            columns = json.loads(damaged.read_text())["structures"]
            return {"names": columns["name"], "formulas": columns["formula"], "values": original["values"]}
        except (ValueError, KeyError, TypeError):
            return None


TARGETS: list[Target] = [
    DensityFile("CHGCAR"),
    DensityFile("spin.CHGCAR", channels=True, occupancies=True),
    DensityFile("x.cube"),
    DensityFile("spin.cube", channels=True),
    DensityFile("x.h5", channels=True, occupancies=True),
    ChgcarJson("CHGCAR.json"),
    *(DensityFile(f"CHGCAR{suffix}") for suffix in (".gz", ".zz", ".lz4", ".bz2", ".xz", ".zst")),
    StoreFiles("none", "shard-*.h5"),
    StoreFiles("bitshuffle", "shard-*.h5"),
    StoreFiles("zfp", "shard-*.h5"),
    StoreFiles("none", "index.json"),
    StoreFiles("none", "split.json"),
    CheckpointFile(),
    ReleasedModel(),
    IndexWithoutChecksum(),
]
