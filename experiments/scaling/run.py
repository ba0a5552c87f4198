"""CPU time and memory of predictions from 10² to 10⁶ atoms: water, ethylene carbonate and layered oxides.

    python run.py measure                 # sizes up to 10⁵, encoded as a whole: results.json
    python run.py million --memory 8GB    # 10⁶ atoms of water in domains: million.json
    python run.py picture                 # scaling.png and table.md from both

Weights do not matter to time and memory, so the bundled model is used for all elements.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import ase
import numpy as np
from ase.build import molecule
from scipy.spatial.transform import Rotation

HERE = Path(__file__).parent
SIZES = (100, 1000, 10_000, 100_000)
SYSTEMS = ("water", "ec", "nmc")
SPACING = 0.2
POINTS = 60  # along each side of the region in which decoding is timed


def rotated(unit: ase.Atoms, n_cells: int, distance: float) -> ase.Atoms:
    """Copies of a molecule in random orientations on a cubic lattice."""
    n, rng = n_cells**3, np.random.default_rng(0)
    places = distance * np.stack(np.meshgrid(*[np.arange(n_cells)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    places = places + rng.uniform(-0.15, 0.15, (n, 3))
    turns = Rotation.random(n, random_state=0).as_matrix()
    centred = unit.positions - unit.positions.mean(axis=0)
    positions = places[:, None] + np.einsum("nij,aj->nai", turns, centred)
    return ase.Atoms(np.tile(unit.numbers, n), positions.reshape(-1, 3), cell=[n_cells * distance] * 3, pbc=True)


def ethylene_carbonate() -> ase.Atoms:
    ring = [[0, 1.16, 0], [1.09, 0.33, 0], [0.76, -1.02, 0], [-0.76, -1.02, 0], [-1.09, 0.33, 0], [0, 2.35, 0]]
    hydrogens = [[x, -1.45, z] for x in (1.2, -1.2) for z in (0.9, -0.9)]
    return ase.Atoms("COCCOOH4", positions=ring + hydrogens)


def layered_oxide() -> ase.Atoms:
    from ase.spacegroup import crystal

    basis = [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.241)]
    return crystal(["Li", "Ni", "O"], basis=basis, spacegroup=166, cellpar=[2.87, 2.87, 14.2, 90, 90, 120])


def structure(system: str, n_atoms: int) -> ase.Atoms:
    """About so many atoms."""
    if system == "nmc":
        unit = layered_oxide()
        lengths = unit.cell.lengths()
        edge = (unit.cell.volume * n_atoms / len(unit)) ** (1 / 3)
        atoms = unit.repeat([max(1, round(edge / length)) for length in lengths])
        metals = np.flatnonzero(atoms.numbers == 28)
        atoms.numbers[metals] = np.random.default_rng(0).choice([28, 25, 27], len(metals))
        atoms.rattle(0.05, seed=0)
        return atoms
    unit, distance = (molecule("H2O"), 3.105) if system == "water" else (ethylene_carbonate(), 4.8)
    return rotated(unit, max(1, round((n_atoms / len(unit)) ** (1 / 3))), distance)


def peak() -> float:
    """GB that this process has had at most since `reset`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1e6


def reset() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def one(system: str, n_atoms: int) -> dict[str, float | str]:
    """Encode a structure as a whole, and decode a cube of points in its middle."""
    from deepdft import bundled
    from deepdft.checkpoint import load_checkpoint
    from deepdft.inference.encoded import EncodedStructure

    model, atoms = load_checkpoint(bundled.MODEL).model, structure(system, n_atoms)
    EncodedStructure(model, atoms[:60]).density(np.random.default_rng(0).uniform(0, 5, (2000, 3)))  # compile
    reset()
    began = time.process_time()
    encoded = EncodedStructure(model, atoms)
    encode = time.process_time() - began
    of_encode = peak()
    reset()
    axis = SPACING * (np.arange(POINTS) - POINTS / 2)
    cube = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    middle = atoms.cell.array.sum(axis=0) / 2
    began = time.process_time()
    encoded.density(cube + middle)
    decode = time.process_time() - began
    return {
        "system": system,
        "n_atoms": len(atoms),
        "encode_seconds": encode,
        "decode_seconds_per_point": decode / len(cube),
        "grid_points": float(atoms.cell.volume / SPACING**3),
        "encode_peak_gb": of_encode,
        "decode_peak_gb": peak(),
    }


def measure() -> None:
    results = []
    for n_atoms in SIZES:
        for system in SYSTEMS:
            command = [sys.executable, __file__, "one", "--system", system, "--atoms", str(n_atoms)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
            print(results[-1], flush=True)
            (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def million(memory: str, n_atoms: int, n_domains: int | None) -> None:
    """Encode the domains of a large structure, the largest first, and decode a slab of that one.

    What `million.json` holds of the same structure is not encoded again: a run that was stopped continues.
    """
    from deepdft import bundled
    from deepdft.checkpoint import load_checkpoint
    from deepdft.inference.box import make_box
    from deepdft.inference.pieces import Pieces
    from deepdft.memory import parse_memory

    model = load_checkpoint(bundled.MODEL).model
    atoms = structure("water", n_atoms)
    box = make_box(atoms, spacing=SPACING)
    began = time.process_time()
    pieces = Pieces(model, box, memory=parse_memory(memory))
    cut = time.process_time() - began
    result = {
        "n_atoms": len(atoms),
        "memory": memory,
        "domains": len(pieces.domains),
        "atoms_encoded": sum(domain.n_atoms for domain in pieces.domains),
        "largest_domain": max(domain.n_atoms for domain in pieces.domains),
        "grid_points": box.n_points,
        "slabs": len(pieces.slabs),
    }
    file = HERE / "million.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    if all(before.get(key) == value for key, value in result.items()) and "encoded" in before:
        result = before
    else:
        result |= {"cut_seconds": cut, "peak_gb": 0.0, "encoded": {}}
    print({key: value for key, value in result.items() if key != "encoded"}, flush=True)
    order = sorted(range(len(pieces.domains)), key=lambda number: -pieces.domains[number].n_atoms)
    for number in order[:n_domains]:
        if str(number) in result["encoded"]:
            continue
        began = time.process_time()
        pieces.encoded(number)
        result["encoded"][str(number)] = {
            "n_atoms": pieces.domains[number].n_atoms,
            "cpu_seconds": time.process_time() - began,
        }
        if number == order[0]:
            slab = next(slab for slab in pieces.slabs if slab.domain == number)
            began = time.process_time()
            density = pieces.density(slab)
            result |= {
                "decode_seconds": time.process_time() - began,
                "decoded_points": slab.n_points,
                "mean_density": float(density.mean()),
            }
        result["peak_gb"] = max(result["peak_gb"], peak())
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(result, indent=1) + "\n")
        unfinished.replace(file)
        print(number, result["encoded"][str(number)], result["peak_gb"], flush=True)


def exponent(sizes: list[float], values: list[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def picture() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    results = json.loads((HERE / "results.json").read_text())
    whole = json.loads((HERE / "million.json").read_text()) if (HERE / "million.json").exists() else None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    lines = [
        "| system | atoms | encode, CPU s | decode, CPU µs/point | whole grid of 0.2 Å, CPU s | peak, GB |",
        "|---" * 6 + "|",
    ]
    fits = []
    for system in SYSTEMS:
        rows = [row for row in results if row["system"] == system]
        n, encode = ([row[key] for row in rows] for key in ("n_atoms", "encode_seconds"))
        grid = [row["decode_seconds_per_point"] * row["grid_points"] for row in rows]
        memory = [max(row["encode_peak_gb"], row["decode_peak_gb"]) for row in rows]
        left.loglog(n, encode, "o-", label=f"encode, {system}")
        left.loglog(n, grid, "s--", label=f"decode, {system}")
        right.loglog(n, memory, "o-", label=f"as a whole, {system}")
        fits.append(f"{system}: encode {exponent(n[1:], encode[1:]):.2f}, decode {exponent(n[1:], grid[1:]):.2f}")
        for row, seconds, peak_gb in zip(rows, grid, memory, strict=True):
            times = f"{row['encode_seconds']:.2f} | {1e6 * row['decode_seconds_per_point']:.2f} | {seconds:.0f}"
            lines.append(f"| {system} | {row['n_atoms']} | {times} | {peak_gb:.2f} |")
    if whole is not None:
        encoded = whole["encoded"].values()
        seconds = sum(domain["cpu_seconds"] for domain in encoded)
        seconds *= whole["atoms_encoded"] / sum(domain["n_atoms"] for domain in encoded)
        extrapolated = "" if len(encoded) == whole["domains"] else " (extrapolated)"
        left.loglog(whole["n_atoms"], seconds, "k*", markersize=11, label=f"encode in domains, water{extrapolated}")
        right.loglog(
            whole["n_atoms"], whole["peak_gb"], "k*", markersize=11, label=f"in domains, memory={whole['memory']}"
        )
    left.set(xlabel="atoms", ylabel="CPU seconds, one thread")
    right.set(xlabel="atoms", ylabel="peak memory (GB)")
    left.legend(fontsize=7)
    right.legend(fontsize=7)
    figure.savefig(HERE / "scaling.png", dpi=150)
    text = "\n".join(lines) + "\n\nExponents without the smallest size. " + "; ".join(fits) + ".\n"
    (HERE / "table.md").write_text(text)
    print("\n".join(fits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["measure", "million", "picture", "one"])
    parser.add_argument("--system", default="water")
    parser.add_argument("--atoms", type=int, default=1_000_000)
    parser.add_argument("--memory", default="8GB")
    parser.add_argument("--domains", type=int, help="encode only so many, the largest first")
    arguments = parser.parse_args()
    if arguments.what == "one":
        print(json.dumps(one(arguments.system, arguments.atoms)))
    elif arguments.what == "million":
        million(arguments.memory, arguments.atoms, arguments.domains)
    else:
        {"measure": measure, "picture": picture}[arguments.what]()


if __name__ == "__main__":
    main()
