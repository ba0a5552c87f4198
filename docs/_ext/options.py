"""Tables of all options, read from the YAML files of conf/ and their comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

__all__ = ["ConfigFile", "Option", "command_page", "group_page", "read"]

LINE = re.compile(
    r"^(?P<indent> *)(?P<dash>- )?(?P<key>[\w.]+):(?: +(?P<value>(?:\"[^\"]*\"|\{.*?\}(?= +#|$)|[^#])*?))?"
    r"(?:\s+#\s*(?P<comment>.*))?$"
)
UNIT = re.compile(r"^(e/Å³|Å⁻²|Å|eV|Ry|fs|K|g/cm³|μ_B|%|steps|bytes|minutes)(?=$|[,;:. ])[,;]?\s*")
NO_OPTIONS = ("defaults", "hydra")


@dataclass(frozen=True)
class Option:
    """A key of a config file."""

    key: str
    """Dotted path within the file."""
    default: str
    """As it stands in the file; "" for a section."""
    unit: str
    comment: str


@dataclass(frozen=True)
class ConfigFile:
    """A file of conf/."""

    path: Path
    about: str
    """The comment at its beginning."""
    groups: tuple[tuple[str, str, str], ...]
    """Config groups among its defaults: name, choice, comment."""
    bases: tuple[str, ...]
    """Files of the same group that it builds on."""
    options: tuple[Option, ...]


def read(path: Path) -> ConfigFile:
    """Read a config file with its comments."""
    text = path.read_text(encoding="utf-8")
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) or {}
    about = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            about.append(line.lstrip("#").strip())
    defaults = content.get("defaults", [])
    comments = dict(re.findall(r"^  - (?:optional )?([\w/ ]+): \S+ # (.*)$", text, re.MULTILINE))
    chosen = [entry for entry in defaults if isinstance(entry, dict)]
    groups = [
        (str(key).removeprefix("optional "), str(value), comments.get(str(key).removeprefix("optional "), ""))
        for entry in chosen
        for key, value in entry.items()
    ]
    return ConfigFile(
        path=path,
        about="\n".join(about),
        groups=tuple(group for group in groups if not group[0].startswith(("override hydra", "hydra"))),
        bases=tuple(str(entry) for entry in defaults if isinstance(entry, str) and entry != "_self_"),
        options=tuple(_options(text)),
    )


def _options(text: str) -> Iterator[Option]:
    sections: list[tuple[int, str]] = []
    skipped = False
    for line in text.splitlines():
        found = LINE.match(line)
        if line and not line[0].isspace() and not line.startswith(("#", "- ")):
            skipped = line.split(":")[0] in NO_OPTIONS
        if skipped or found is None or found["dash"]:
            continue
        indent = len(found["indent"])
        while sections and sections[-1][0] >= indent:
            sections.pop()
        sections.append((indent, found["key"]))
        comment = found["comment"] or ""
        unit = UNIT.match(comment)
        yield Option(
            key=".".join(name for _, name in sections),
            default=(found["value"] or "").strip(),
            unit=unit[1] if unit else "",
            comment=comment[unit.end() :] if unit else comment,
        )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").replace("$", "\\$")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def table(options: tuple[Option, ...], prefix: str = "") -> list[str]:
    """A Markdown table of options, a row each."""
    lines = ["| option | default | unit | meaning |", "|---|---|---|---|"]
    for option in options:
        if option.key.split(".")[-1] == "_target_":
            continue
        default = "*required*" if option.default == "???" else _code(option.default)
        key = f"{prefix}{option.key}"
        lines.append(f"| `{key}` | {default} | {option.unit} | {_cell(option.comment)} |")
    return lines if len(lines) > 2 else []


def command_page(conf: Path) -> str:
    """The page of all commands and their options."""
    lines = [
        "# Commands",
        "",
        "Made from the files of `conf/` when these pages were built. Every command takes options as `key=value`,",
        "`--help` for the same text in the terminal, and `--cfg job` to print all settings with their values.",
        "",
    ]
    for path in sorted(conf.glob("*.yaml")):
        file = read(path)
        about = file.about.partition("\n")[0].partition(" See `")[0]
        command, _, what = about.partition(": ")
        lines += [f"## {command}", "", _sentence(what), ""]
        of_hydra = conf / "hydra" / path.name
        content: Any = OmegaConf.to_container(OmegaConf.load(of_hydra if of_hydra.is_file() else path))
        template = str(content.get("hydra", content)["help"]["template"])
        examples = [line.strip() for line in template.splitlines() if line.startswith("  ") and f"{command} " in line]
        lines += ["```text", *examples, "```", ""]
        if file.groups:
            lines += ["Groups, chosen as `group=option`:", ""]
            for name, choice, comment in file.groups:
                others = sorted(one.stem for one in (conf / name).glob("*.yaml"))
                if not others:
                    continue
                listed = ", ".join(f"`{one}`" for one in others)
                lines.append(
                    f"- [`{name}`](groups.md#{name}): {listed}; `{choice}` by default"
                    + (f". {_cell(comment)}" if comment else "")
                )
            lines.append("")
        lines += [*table(file.options), "", f"Source: `conf/{path.name}`.", ""]
    return "\n".join(lines)


def group_page(conf: Path) -> str:
    """The page of all config groups, their choices and options."""
    lines = [
        "# Config groups",
        "",
        "Made from the files of `conf/` when these pages were built. A group is chosen as `group=option`, a setting in",
        "it is changed as `group.setting=value`; `~` removes one. A choice that builds on another lists what differs.",
        "",
    ]
    folders = sorted(folder for folder in conf.iterdir() if folder.is_dir() and folder.name != "hydra")
    for folder in folders:
        lines += [f"## {folder.name}", ""]
        prefix = "" if folder.name in ("experiment", "debug", "training") else f"{folder.name}."
        for path in sorted(folder.glob("*.yaml")):
            file = read(path)
            lines += [f"### `{folder.name}={path.stem}`", "", _sentence(_cell(file.about)), ""]
            if file.bases:
                lines += [f"Builds on {', '.join(f'`{folder.name}={base}`' for base in file.bases)}.", ""]
            if file.groups:
                chosen = ", ".join(
                    f"`{name.removeprefix('override ').lstrip('/')}={choice}`" for name, choice, _ in file.groups
                )
                lines += [f"Chooses {chosen}.", ""]
            target = [option.default for option in file.options if option.key == "_target_"]
            if target and target != ["???"]:
                lines += [f"Makes a `{target[0]}`.", ""]
            rows = table(file.options, prefix)
            lines += [*rows, ""] if rows else []
            lines += [f"Source: `conf/{folder.name}/{path.name}`.", ""]
    return "\n".join(lines)


def _sentence(text: str) -> str:
    text = text.strip()
    if not text:
        return ""
    text = text[0].upper() + text[1:] if not text.startswith("`") else text
    return text if text.endswith((".", ":", ")")) else f"{text}."
