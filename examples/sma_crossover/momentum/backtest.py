"""The backtest loop: decisions on one day's close, fills at the next open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from momentum.portfolio import Portfolio
from momentum.prices import Bar


class Outcome(NamedTuple):
    """Equity at each close, the starting capital first, and days held."""

    equity: list[float]
    days_held: int


def run(
    bars: Sequence[Bar], targets: Sequence[float], portfolio: Portfolio, start: int
) -> Outcome:
    """Trade `portfolio` from bar `start` on.

    `targets[t]` is the weight decided from the closes up to and including day
    `t`. That close is over once it is known, so the first price it can be
    traded at is the open of day `t + 1`.
    """
    if not 1 <= start < len(bars):
        raise ValueError(f"start must lie within the {len(bars)} bars, not at {start}")

    equity = [portfolio.equity(bars[start - 1].close)]
    days_held = 0
    for today in range(start, len(bars)):
        target = targets[today - 1]
        portfolio.rebalance(target, bars[today].open)
        equity.append(portfolio.equity(bars[today].close))
        days_held += portfolio.units != 0
    return Outcome(equity, days_held)
