"""How much memory there is, and how much this process has."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["available_memory", "parse_memory", "resident_memory"]

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
CGROUP = Path("/sys/fs/cgroup")


def parse_memory(text: str | float) -> int:
    """Bytes of an amount such as "4GB", "500 MiB" or a number of bytes.

    Raises:
        ValueError: if it is no amount above zero.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e\+?[0-9]+)?)\s*([KMGT]?I?B?)\s*", str(text), re.IGNORECASE)
    unit = found.group(2).upper() if found else ""
    unit = unit + "B" if unit and not unit.endswith("B") else unit
    unit = "" if unit == "B" else unit
    if found is None or unit not in UNITS or not float(found.group(1)) > 0:
        raise ValueError(f"memory={text}: expected an amount such as 4GB or 500MB")
    return int(float(found.group(1)) * UNITS[unit])


def available_memory() -> int:
    """Bytes that this process can still take without others having to be moved out, container limits included."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no limit ("max"), or an older kernel
        return free
    return min(free, max(limit - used, 0))


def resident_memory() -> int:
    """Bytes of physical memory that this process has; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
