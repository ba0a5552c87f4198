"""`python -m deepdft` lists the commands."""

from __future__ import annotations

import signal
from importlib.metadata import entry_points

from deepdft.runs.compose import config_directory
from deepdft.version import version

__all__ = ["main"]


def main() -> None:
    """Print the version and each command with the first line of its config."""
    print(f"deepdft {version()}: machine-learned electronic charge densities\n")
    for file in sorted(config_directory().glob("*.yaml")):
        command, _, about = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(": ")
        print(f"  {command:17} {about.partition(' See `')[0]}")
    installed = any(entry.name == "deepdft-train" for entry in entry_points(group="console_scripts"))
    print(
        "\n`COMMAND --help` explains each" + ("." if installed else "; install the package to have them on the PATH.")
    )


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` ends it without a word
    main()
