"""The fixed settings of a sweep, read from an INI file."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from momentum.portfolio import FeeModel, VolatilityTarget


@dataclass(frozen=True)
class Settings:
    """Everything that a run needs beside its own parameters."""

    days: int
    start_price: float
    warmup_days: int
    capital: float
    sizing: VolatilityTarget
    volatility_window: int
    fees: FeeModel


def load(path: Path) -> Settings:
    """Read `path`; a key that is missing or is no number raises an error."""
    parser = configparser.ConfigParser(interpolation=None)
    with path.open(encoding="utf-8") as file:
        parser.read_file(file)
    market, sizing = parser["market"], parser["sizing"]
    return Settings(
        days=int(market["days"]),
        start_price=float(market["start_price"]),
        warmup_days=int(market["warmup_days"]),
        capital=float(parser["account"]["capital"]),
        sizing=VolatilityTarget(
            target=float(sizing["target_volatility"]),
            max_leverage=float(sizing["max_leverage"]),
        ),
        volatility_window=int(sizing["volatility_window"]),
        # By name, so that a fee the model does not know is refused and not
        # silently left out of the result.
        fees=FeeModel(**{name: float(rate) for name, rate in parser["fees"].items()}),
    )
