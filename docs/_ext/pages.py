"""Pages made when the site is built: options from conf/, and texts that live elsewhere in the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from options import command_page, group_page
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")

TEXTS = {  # page in docs/generated: text in the repository
    **{
        f"measured/{name.replace('/', '_')}": f"experiments/{name}/README.md"
        for name in (
            "electron_counts",
            "fields",
            "free_atoms",
            "model_comparison",
            "occupancies",
            "orbital_settings",
            "performance/gpu",
            "performance/io",
            "performance/models",
            "performance/store",
            "performance/viewer",
            "qm9_small",
            "released_vs_paper",
            "scf_start",
            "table1_small",
            "uncertainty",
            "xc_ensemble",
        )
    },
    "measured/model_comparison_table": "experiments/model_comparison/results.md",
    "measured/table1_small_table": "experiments/table1_small/table.md",
    "cards/orbital_small_molecules": "deepdft/bundled/orbital_small_molecules.md",
    "cards/free_atoms": "deepdft/bundled/free_atoms.md",
    "cards/qm9_demo": "deepdft/bundled/qm9_demo/README.md",
    "cards/qm9_demo_xc": "deepdft/bundled/qm9_demo_xc/README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
}
PAGE_OF = {ROOT / text: page for page, text in TEXTS.items()}


def relinked(text: str, source: Path, page: Path, docs: Path) -> str:
    """The text of a file in the repository as a page: links to other such texts lead to their pages.

    Args:
        text: Markdown.
        source: where it lies.
        page: where the page is written.
        docs: folder of the documentation.
    """

    def relink(found: re.Match[str]) -> str:
        label, target = found[1], found[2]
        path, hash_, anchor = target.partition("#")
        if ":" in path or not path:
            return found[0]
        file = (source.parent / path).resolve()
        if (file / "README.md").is_file():
            file = file / "README.md"
        if file in PAGE_OF:
            file = docs / "generated" / f"{PAGE_OF[file]}.md"
        if file.is_dir():
            return f"`{file.relative_to(ROOT)}`"
        return f"{label}({os.path.relpath(file, page.parent)}{hash_}{anchor})"

    return LINK.sub(relink, text)


def endpoints_page() -> str:
    """The page of all requests that deepdft-view answers, from its routes and their docstrings."""
    from deepdft.viewer.routes import router

    lines = ["# Requests", "", "Made from the routes of the server when these pages were built.", ""]
    for route in router.routes:
        (method,) = route.methods
        text = " ".join((route.endpoint.__doc__ or "").split())
        query = [parameter.alias for parameter in route.dependant.query_params]
        lines += [f"`{method} {route.path}`", f": {text}" + (f" Query: {', '.join(query)}." if query else ""), ""]
    return "\n".join(lines)


def _write(app: Sphinx) -> None:
    docs = Path(app.srcdir)
    made = {
        "options/commands": command_page(ROOT / "conf"),
        "options/groups": group_page(ROOT / "conf"),
        "options/requests": endpoints_page(),
    }
    for page, path in TEXTS.items():
        source = ROOT / path
        text = relinked(source.read_text(encoding="utf-8"), source, docs / "generated" / f"{page}.md", docs)
        made[page] = text if text.startswith("# ") else f"# {source.parent.name}: {source.stem}\n\n{text}"
    folder = docs / "generated"
    for old in folder.rglob("*.md"):
        if str(old.relative_to(folder).with_suffix("")) not in made:
            old.unlink()
    for page, text in made.items():
        file = folder / f"{page}.md"
        if not file.is_file() or file.read_text(encoding="utf-8") != text:  # unchanged pages are not built again
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
