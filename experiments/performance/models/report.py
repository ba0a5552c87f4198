"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable


def table(results: dict) -> str:
    """All tables of one run."""
    threads = "1 thread" if results["threads"] == 1 else f"{results['threads']} threads"
    return "\n".join(
        [
            f"{results['molecule predicted']}; {threads}, {results['clock']} time, medians of {results['repeats']}.",
            "",
            *_speed(results),
            "",
            *_parts("Milliseconds of a training step", results["seconds of a training step"]),
            "",
            *_parts("Milliseconds of a prediction", results["seconds of a prediction"]),
            "",
            *_row(["MB that a prediction adds", ""], head=True),
            *(line for name, value in results["MB that a prediction adds"].items() for line in _row([name, value])),
            "",
            *_roofline(results["roofline"]),
            "",
        ]
    )


def _row(cells: Iterable[object], *, head: bool = False) -> list[str]:
    cells = [str(cell) for cell in cells]
    return ["| " + " | ".join(cells) + " |"] + (["|" + "---|" * len(cells)] if head else [])


def _speed(results: dict) -> list[str]:
    lines = _row(
        ["", "training step, s", "prediction, points/s", "× released, training", "× released, prediction"], head=True
    )
    steps, points = results["median seconds per training step"], results["points per second"]
    for name in points:
        ratio = results["times as fast as the released form"].get(name, {})
        lines += _row([name, steps[name], points[name], ratio.get("training step", ""), ratio.get("prediction", "")])
    for name in ("read, sample, graph: released", "read, sample, graph"):
        lines += _row([name, steps[name], "", "", ""])
    return lines


def _parts(title: str, times: dict[str, dict[str, float]]) -> list[str]:
    columns = list(dict.fromkeys(part for parts in times.values() for part in parts))
    lines = _row([title, *columns], head=True)
    for name, parts in times.items():
        lines += _row([name, *(f"{1000 * parts[c]:.1f}" if c in parts else "" for c in columns)])
    return lines


def _roofline(results: dict) -> list[str]:
    models = {name: values for name, values in results.items() if isinstance(values, dict)}
    lines = [f"{key}: {value}" for key, value in results.items() if not isinstance(value, dict)] + [""]
    columns = list(next(iter(models.values())))
    lines += _row(["matrix products", *columns], head=True)
    for name, values in models.items():
        lines += _row([name, *(values[c] for c in columns)])
    return lines
