"""Run from the project root: python3 -m unittest tests/test_momentum.py"""

from __future__ import annotations

import math
import statistics
import unittest

from momentum import backtest, metrics, prices
from momentum.indicators import log_returns, realised_volatility, sma
from momentum.portfolio import FeeModel, Portfolio, VolatilityTarget
from momentum.signals import crossover


class LookAhead(unittest.TestCase):
    """What is decided on a day must not depend on anything after its close."""

    def setUp(self) -> None:
        self.bars = prices.generate(seed=3, days=400, start_price=100.0)
        self.closes = [bar.close for bar in self.bars]

    def test_signals_and_volatility_of_a_day_ignore_later_days(self) -> None:
        signal = crossover(self.closes, 5, 20)
        volatility = realised_volatility(self.closes, 15)
        for end in (1, 15, 16, 20, 123, 399):
            known = self.closes[:end]
            self.assertEqual(crossover(known, 5, 20), signal[:end])
            self.assertEqual(realised_volatility(known, 15), volatility[:end])

    def test_a_decision_is_filled_at_the_next_open(self) -> None:
        bars = [prices.Bar(100, 100), prices.Bar(110, 120), prices.Bar(130, 140)]
        free = Portfolio(1100.0, FeeModel(0.0, 0.0))
        outcome = backtest.run(bars, [1.0, 1.0, 1.0], free, start=1)
        # Ten units at 110, the open of day 1, not at the close of day 0.
        self.assertEqual(free.units, 10)
        self.assertEqual(outcome.equity, [1100.0, 1200.0, 1400.0])

    def test_the_last_target_is_never_traded(self) -> None:
        free = Portfolio(1000.0, FeeModel(0.0, 0.0))
        targets = [0.0] * (len(self.bars) - 1) + [1.0]
        backtest.run(self.bars, targets, free, start=1)
        self.assertEqual(free.trades, 0)


class Arithmetic(unittest.TestCase):
    def test_sma(self) -> None:
        self.assertEqual(sma([1, 2, 3, 6], 3), [None, None, 2.0, 11 / 3])

    def test_realised_volatility_is_the_sample_deviation(self) -> None:
        closes = [100.0, 103.0, 101.0, 104.0, 99.0]
        expected = statistics.stdev(log_returns(closes)[-3:]) * math.sqrt(252)
        self.assertAlmostEqual(realised_volatility(closes, 3)[-1], expected)

    def test_a_full_position_never_overdraws(self) -> None:
        portfolio = Portfolio(10_000.0, FeeModel(commission_bps=10, slippage_bps=10))
        portfolio.rebalance(1.0, 99.5)
        self.assertGreaterEqual(portfolio.cash, 0.0)
        self.assertEqual(portfolio.units, 100)

    def test_fees_are_what_the_account_loses(self) -> None:
        portfolio = Portfolio(10_000.0, FeeModel(commission_bps=10, slippage_bps=5))
        portfolio.rebalance(0.5, 100.0)
        portfolio.rebalance(0.0, 100.0)
        self.assertEqual((portfolio.units, portfolio.trades), (0, 2))
        self.assertAlmostEqual(portfolio.equity(100.0), 10_000.0 - portfolio.fees_paid)

    def test_weight_falls_as_volatility_rises(self) -> None:
        sizing = VolatilityTarget(target=0.15, max_leverage=1.0)
        weights = [sizing.weight(value) for value in (None, 0.05, 0.15, 0.30)]
        self.assertEqual(weights, [0.0, 1.0, 1.0, 0.5])

    def test_metrics(self) -> None:
        curve = [100.0, 120.0, 90.0, 150.0]
        self.assertAlmostEqual(metrics.total_return(curve), 0.5)
        self.assertAlmostEqual(metrics.max_drawdown(curve), 0.25)
        self.assertEqual(metrics.sharpe([100.0, 100.0, 100.0]), 0.0)


if __name__ == "__main__":
    unittest.main()
