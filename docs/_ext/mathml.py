"""Formulas as MathML, which browsers draw themselves: no script and no font from the network."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

BOLD = re.compile(r'<mi mathvariant="bold">([a-zA-Z])</mi>')


def mathml(latex: str, display: str) -> str:
    """A formula; bold letters are characters of their own in the MathML that browsers draw."""

    def bold(found: re.Match[str]) -> str:
        letter = found[1]
        return f"<mi>{chr((0x1D41A - 97 if letter.islower() else 0x1D400 - 65) + ord(letter))}</mi>"

    return BOLD.sub(bold, convert(latex, display=display))


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
