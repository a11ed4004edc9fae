"""Synthetic daily prices: a geometric random walk that switches regimes.

A plain random walk has no trend for a crossover to find. Here drift and
volatility depend on a hidden regime that persists for weeks or months, which
gives the trends, the choppy stretches and the sudden falls that such a
strategy lives from and suffers from.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

TRADING_DAYS = 252

# Share of a day's variance that falls between one close and the next open.
# With it at zero a fill at the open would be a fill at the price that made the
# signal, and every backtest would look better than it could have traded.
OVERNIGHT_SHARE = 0.25


class Bar(NamedTuple):
    """One trading day."""

    open: float
    close: float


class Regime(NamedTuple):
    """A market state: annual drift and volatility, expected length in days."""

    name: str
    drift: float
    volatility: float
    mean_days: float


REGIMES = (
    Regime("bull", drift=0.24, volatility=0.13, mean_days=160),
    Regime("sideways", drift=0.01, volatility=0.11, mean_days=80),
    Regime("bear", drift=-0.28, volatility=0.24, mean_days=70),
)


def _log_return(rng: random.Random, regime: Regime, years: float) -> float:
    """Draw a log return over part of a year; prices grow by `drift` on average."""
    mean = (regime.drift - 0.5 * regime.volatility**2) * years
    return rng.gauss(mean, regime.volatility * math.sqrt(years))


def generate(seed: int, days: int, start_price: float) -> list[Bar]:
    """Make `days` bars. The same arguments always give the same bars."""
    rng = random.Random(seed)
    overnight = OVERNIGHT_SHARE / TRADING_DAYS
    intraday = (1.0 - OVERNIGHT_SHARE) / TRADING_DAYS

    regime = REGIMES[0]
    close = start_price
    bars = []
    for _ in range(days):
        # A constant chance of leaving each day makes the length of a regime
        # geometric: how long it has lasted says nothing about when it ends.
        if rng.random() < 1.0 / regime.mean_days:
            regime = rng.choice([other for other in REGIMES if other is not regime])
        opening = close * math.exp(_log_return(rng, regime, overnight))
        close = opening * math.exp(_log_return(rng, regime, intraday))
        bars.append(Bar(opening, close))
    return bars
