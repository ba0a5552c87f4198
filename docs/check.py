"""Check a built site: every local link and anchor leads somewhere, and nothing is loaded from the network.

`python docs/check.py docs/_build/html`; exit status 1 with a line for each problem.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}


class Page(HTMLParser):
    """Links, loaded files and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            if tag == "a" and name == "href":
                self.links.append(value)
            if (tag, name) in LOADED:
                self.loaded.append(value)


def problems(root: Path) -> list[str]:
    """A line for each link that leads nowhere, and each file that would come from the network."""
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in sorted(root.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    found.append(f"{file.relative_to(root)}: loads {link} from the network")
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.exists():
                found.append(f"{file.relative_to(root)}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{file.relative_to(root)}: {link}: there is no such anchor")
    sheets = {sheet: sheet.read_text(encoding="utf-8") for sheet in root.rglob("*.css")}
    found += [
        f"{sheet.relative_to(root)}: loads from the network" for sheet, text in sheets.items() if "url(http" in text
    ]
    return found


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    lines = problems(root)
    print("\n".join(lines) if lines else f"{sum(1 for _ in root.rglob('*.html'))} pages: links lead somewhere, offline")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
