"""Problems with a user's input: the error of unreadable density files, and the warning about doubtful input.

Library code raises ValueError (of which `DensityFormatError` is one) in one line, or calls
`warnings.warn(text, InputWarning)`; the commands print either as one line on stderr.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["DensityFormatError", "InputWarning", "RenamedWarning", "warnings_as_lines"]


class DensityFormatError(ValueError):
    """A file is not the density it should be; the message names the file (and the member of an archive)."""


class InputWarning(UserWarning):
    """Input that is accepted, but whose result may not be what the user expects."""


class RenamedWarning(InputWarning, DeprecationWarning):
    """A former name of a setting, which still works and will be removed in the next version."""


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print every `InputWarning` as one line `warning: …` on stderr, the same text once; leave others alone."""
    reported: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        show = warnings.showwarning

        def show_line(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
            text = " ".join(str(message).split())
            if not issubclass(category, InputWarning):
                show(message, category, *where, **options)
            elif text not in reported:
                reported.add(text)
                print(f"warning: {text}", file=sys.stderr, flush=True)

        warnings.showwarning = show_line
        yield
