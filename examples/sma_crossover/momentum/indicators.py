"""Indicators over a series of closes.

Each returns a list as long as its input. Entry `t` is computed from entries up
to and including `t` alone, and is None while there are too few of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Optional

from momentum.prices import TRADING_DAYS

Series = list[Optional[float]]


def sma(values: Sequence[float], window: int) -> Series:
    """Simple moving average of the last `window` values."""
    if window < 1:
        raise ValueError(f"window must be at least 1, not {window}")
    sums = [0.0, *accumulate(values)]
    return [
        (sums[end] - sums[end - window]) / window if end >= window else None
        for end in range(1, len(values) + 1)
    ]


def log_returns(closes: Sequence[float]) -> list[float]:
    """Log return of each close on the one before it (one fewer than closes)."""
    return [math.log(now / before) for before, now in zip(closes, closes[1:])]


def realised_volatility(closes: Sequence[float], window: int) -> Series:
    """Annualised standard deviation of the last `window` log returns."""
    if window < 2:
        raise ValueError(f"window must be at least 2, not {window}")
    returns = log_returns(closes)
    means = sma(returns, window)
    squares = sma([value * value for value in returns], window)
    # Sample variance, from the mean of the squares; rounding may take a flat
    # series a hair below zero.
    scale = TRADING_DAYS * window / (window - 1)
    volatility: Series = [None]
    for mean, square in zip(means, squares):
        if mean is None or square is None:
            volatility.append(None)
        else:
            volatility.append(math.sqrt(scale * max(0.0, square - mean * mean)))
    return volatility
