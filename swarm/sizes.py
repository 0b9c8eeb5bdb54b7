"""Sizes as people read them."""

from __future__ import annotations

_STEPS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def format_size(size: float) -> str:
    """Write bytes with a binary unit: ``512B``, ``64.0KiB``, ``1.5GiB``."""
    value = float(size)
    for unit in _STEPS[:-1]:
        if round(value, 1) < _STEP:
            return f"{value:.0f}{unit}" if unit == "B" else f"{value:.1f}{unit}"
        value /= _STEP
    return f"{value:.1f}{_STEPS[-1]}"
