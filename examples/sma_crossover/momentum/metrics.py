"""Performance figures of an equity curve, one value per trading day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from momentum.prices import TRADING_DAYS


def daily_returns(equity: Sequence[float]) -> list[float]:
    """Simple return of each day on the one before it."""
    return [now / before - 1.0 for before, now in zip(equity, equity[1:])]


def total_return(equity: Sequence[float]) -> float:
    """Gain over the whole curve as a share of what it started with."""
    return equity[-1] / equity[0] - 1.0


def annual_return(equity: Sequence[float]) -> float:
    """Compound growth a year; -1 when the account was lost."""
    growth = equity[-1] / equity[0]
    if growth <= 0.0:
        return -1.0
    return growth ** (TRADING_DAYS / (len(equity) - 1)) - 1.0


def volatility(equity: Sequence[float]) -> float:
    """Annualised sample standard deviation of the daily returns."""
    returns = daily_returns(equity)
    if len(returns) < 2:
        return 0.0
    mean = fmean(returns)
    variance = math.fsum((value - mean) ** 2 for value in returns) / (len(returns) - 1)
    return math.sqrt(variance * TRADING_DAYS)


def sharpe(equity: Sequence[float]) -> float:
    """Annualised mean return over volatility, with cash earning nothing.

    Zero for a curve that never moves: a strategy that never trades is neither
    good nor bad.
    """
    spread = volatility(equity)
    if spread == 0.0:
        return 0.0
    return fmean(daily_returns(equity)) * TRADING_DAYS / spread


def max_drawdown(equity: Sequence[float]) -> float:
    """Deepest fall from a peak, as a positive share of that peak."""
    peak = equity[0]
    deepest = 0.0
    for value in equity:
        peak = max(peak, value)
        deepest = max(deepest, 1.0 - value / peak)
    return deepest
