"""Trading signals: what to hold, before how much of it is decided."""

from __future__ import annotations

from collections.abc import Sequence

from momentum.indicators import sma

FLAT = 0
LONG = 1


def crossover(closes: Sequence[float], fast: int, slow: int) -> list[int]:
    """Long on the days whose fast average closes above the slow one, else flat."""
    signal = []
    for quick, steady in zip(sma(closes, fast), sma(closes, slow)):
        known = quick is not None and steady is not None
        signal.append(LONG if known and quick > steady else FLAT)
    return signal
