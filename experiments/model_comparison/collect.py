"""Tables and pictures of the results of run.py: results.json, results.md, and the PNG files beside this one.

Runs on another machine are kept in avx512.json, from which learning_more_*.png are drawn.

python experiments/model_comparison/collect.py [runs/model_comparison]
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from models import MODELS, SETS
from PIL import Image

from deepdft.plotting import learning_curves, save

HERE = Path(__file__).parent
TITLES = {
    "qm9_small": "first molecules of QM9",
    "qm9_large": "random molecules of QM9",
    "qm9": "random molecules of QM9, not convolved",
    "ec": "liquid ethylene carbonate",
    "nmc": "layered Li(Ni,Mn,Co)O₂",
}


def finished(work: Path) -> dict[str, dict[str, Any]]:
    """Name → record with the errors on the test structures."""
    found = {}
    for path in sorted(work.glob("*/*/record.json")):
        record = json.loads(path.read_text())
        summary = json.loads((path.parent / "test" / "summary.json").read_text())
        record |= {key: {name: round(value, 4) for name, value in summary[key].items()} for key in MEASURES}
        record["n_parameters"] = json.loads((path.parent / "train" / "run.json").read_text())["n_parameters"]
        record["curve"] = curve(path.parent / "train", record)
        found[record.pop("name")] = record
    return found


MEASURES = ("eps_mae", "eps_mae_scaled")


def curve(run: Path, record: dict[str, Any]) -> list[tuple[float, float]]:
    """CPU minutes of training and ε_mae of the validation structures; validation takes its share of the time."""
    with (run / "metrics.csv").open() as file:
        rows = [(int(row["step"]) + 1, float(row["val/eps_mae"])) for row in csv.DictReader(file) if row["val/eps_mae"]]
    return [(round(step / record["steps"] * record["cpu_seconds"] / 60, 3), round(error, 4)) for step, error in rows]


def row(name: str, record: dict[str, Any]) -> str:
    error = record["eps_mae"]
    cells = [f"{error[key]:.2f}" for key in ("mean", "median", "max")]
    cells += [f"{record['eps_mae_scaled']['mean']:.2f}", str(record["steps"]), f"{record['cpu_seconds'] / 60:.1f}"]
    return f"| {name} | " + " | ".join(cells) + " |"


HEAD = "| | mean | median | max | mean, scaled | steps | CPU minutes |\n|---|---|---|---|---|---|---|"


def tables(records: dict[str, dict[str, Any]]) -> str:
    text = []
    for store in SETS:
        equal_time = {model: records.get(f"sets/{store}-{model}") for model in MODELS}
        lines = [row(model, record) for model, record in equal_time.items() if record]
        lines += [
            row(f"{model}, equal steps", records[f"equal_steps/{store}-{model}"])
            for model in MODELS
            if f"equal_steps/{store}-{model}" in records
        ]
        if lines:
            text += [f"## {store}: {TITLES[store]}", "", HEAD, *lines, ""]
    for part in ("long", "settings", "efficiency", "ablations", "crystals", "bundled"):
        mine = {name.removeprefix(f"{part}/"): r for name, r in records.items() if name.startswith(f"{part}/")}
        lines = [row(name, r) for name, r in sorted(mine.items(), key=lambda item: item[1]["eps_mae"]["mean"])]
        if lines:
            text += [f"## {part}", "", HEAD, *lines, ""]
    return "\n".join(text)


def pictures(records: dict[str, dict[str, Any]]) -> None:
    prefixes = {store: f"sets/{store}-" for store in SETS} | {"long": "long/"}
    for name, prefix in prefixes.items():
        curves = {
            model: tuple(zip(*records[prefix + model]["curve"], strict=True))
            for model in MODELS
            if prefix + model in records
        }
        if curves:
            title = "qm9_small" if name == "long" else name
            figure = learning_curves(
                curves, x_label="CPU minutes of training, one thread", title=f"{title}: validation structures"
            )
            save(figure, HERE / f"learning_{name}.png")
    curves = {}
    for model in MODELS:
        points = [
            (count, records[name]["eps_mae"]["mean"])
            for count in (10, 20, 40)
            if (name := f"efficiency/{model}-{count}") in records
        ]
        if (with_all := f"sets/qm9_small-{model}") in records:
            points.append((77, records[with_all]["eps_mae"]["mean"]))
        if len(points) > 1:
            curves[model] = tuple(zip(*points, strict=True))
    if curves:
        save(learning_curves(curves, x_label="training molecules"), HERE / "data_efficiency.png")


MORE = {  # store → training structures, the fewest and the most → model → record in avx512.json
    "ec": {
        25: {"orbital": "ec-orbital", "PaiNN": "ec-painn"},
        137: {"orbital": "ec_144-wide", "PaiNN": "ec_144-painn"},
    },
    "nmc": {
        128: {"orbital": "nmc-narrow", "PaiNN": "nmc-painn"},
        740: {"orbital": "nmc_756-narrow-wide", "PaiNN": "nmc_756-painn"},
    },
}


def more_structures() -> None:
    """Effect of more training structures, for the fewest and the most of them, from avx512.json."""
    parts = json.loads((HERE / "avx512.json").read_text())
    records = parts["crystals"] | parts["most structures"]
    for store, counts in MORE.items():
        curves = {}
        for count, models in counts.items():
            for model, key in models.items():
                record = records[key]
                minutes = record["cpu_seconds"] / 60 / record["steps"]
                steps, errors = zip(*record["validation eps_mae, %, after steps"], strict=True)
                curves[f"{model}, {count} structures"] = [minutes * step for step in steps], errors
        figure = learning_curves(
            curves, x_label="CPU minutes of training, one thread", title=f"{store}: validation structures"
        )
        save(figure, HERE / f"learning_more_{store}.png")


def worst(work: Path) -> None:
    """Draw where the orbital model is wrong in the worst test molecule; 128 colours are enough."""
    picture = work / "sets" / "qm9_small-orbital" / "test" / "worst.png"
    if picture.is_file():
        Image.open(picture).convert("RGB").quantize(128).save(HERE / "worst.png", optimize=True)


def main(work: Path) -> None:
    records = finished(work)
    worst(work)
    (HERE / "results.json").write_text(json.dumps(records, indent=1) + "\n")
    (HERE / "results.md").write_text(tables(records))
    pictures(records)
    more_structures()
    print(tables(records))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1] if len(sys.argv) == 2 else "runs/model_comparison"))
