"""The account: what a fill costs, how large a position is, what it is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

BASIS_POINT = 1e-4

# A drift in weight smaller than this is not traded: following each small change
# of volatility would pay more in fees than the better sizing earns.
REBALANCE_BAND = 0.10


@dataclass(frozen=True)
class FeeModel:
    """Commission on the traded value, and slippage against the quoted price."""

    commission_bps: float
    slippage_bps: float

    def fill_price(self, quote: float, quantity: int) -> float:
        """Buys fill above the quote, sells below it."""
        return quote + math.copysign(quote * self.slippage_bps * BASIS_POINT, quantity)

    def commission(self, value: float) -> float:
        """Commission for one fill of that value, bought or sold."""
        return abs(value) * self.commission_bps * BASIS_POINT


@dataclass(frozen=True)
class VolatilityTarget:
    """Sizes a position so that its risk, not its value, stays about the same."""

    target: float
    max_leverage: float

    def weight(self, volatility: Optional[float]) -> float:
        """Position as a share of equity; none while volatility is unknown."""
        if not volatility:
            return 0.0
        return min(self.max_leverage, self.target / volatility)


class Portfolio:
    """Cash and one position in whole units."""

    def __init__(self, capital: float, fees: FeeModel) -> None:
        self.cash = capital
        self.units = 0
        self.trades = 0
        self.fees_paid = 0.0
        self._fees = fees

    def equity(self, price: float) -> float:
        """Value of the account with the position marked at `price`."""
        return self.cash + self.units * price

    def rebalance(self, weight: float, quote: float) -> None:
        """Trade towards `weight` of equity at `quote`, unless it is near enough."""
        equity = self.equity(quote)
        closing = weight == 0.0
        drift = weight - self.units * quote / equity
        if abs(drift) < REBALANCE_BAND and not closing:
            return

        # Sized by what a unit costs all in, so that a full position does not
        # overdraw the account by its own fees.
        unit_price = self._fees.fill_price(quote, 1)
        unit_cost = unit_price + self._fees.commission(unit_price)
        quantity = math.floor(weight * equity / unit_cost) - self.units
        if quantity != 0:
            self._fill(quantity, quote)

    def _fill(self, quantity: int, quote: float) -> None:
        value = quantity * self._fees.fill_price(quote, quantity)
        commission = self._fees.commission(value)
        self.cash -= value + commission
        self.units += quantity
        self.trades += 1
        # Slippage is paid as well, only not on the invoice.
        self.fees_paid += commission + abs(value - quantity * quote)
