#!/usr/bin/env python3
"""Backtest a moving-average crossover with volatility-targeted positions.

    python3 strategy.py --fast 10 --slow 50 --output runs/example

writes runs/example/results/result.json. The same code, settings and parameters
always write the same bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from momentum import backtest, metrics, prices, settings
from momentum.indicators import realised_volatility
from momentum.portfolio import Portfolio
from momentum.signals import crossover

# Beside this file, not in the current folder: a copy of the project then reads
# its own settings wherever it is started from.
PARAMS = Path(__file__).resolve().parent / "config" / "params.ini"


def simulate(fast: int, slow: int, seed: int, config: settings.Settings) -> dict[str, float]:
    """Run one backtest and return its metrics."""
    bars = prices.generate(seed, config.days, config.start_price)
    closes = [bar.close for bar in bars]
    signal = crossover(closes, fast, slow)
    volatility = realised_volatility(closes, config.volatility_window)
    targets = [side * config.sizing.weight(vol) for side, vol in zip(signal, volatility)]

    portfolio = Portfolio(config.capital, config.fees)
    outcome = backtest.run(bars, targets, portfolio, config.warmup_days)

    equity = outcome.equity
    benchmark = closes[config.warmup_days - 1 :]
    return {
        "total_return": metrics.total_return(equity),
        "annual_return": metrics.annual_return(equity),
        "volatility": metrics.volatility(equity),
        "sharpe": metrics.sharpe(equity),
        "max_drawdown": metrics.max_drawdown(equity),
        "exposure": outcome.days_held / (len(equity) - 1),
        "trades": portfolio.trades,
        "fees_paid": portfolio.fees_paid,
        "benchmark_return": metrics.total_return(benchmark),
        "benchmark_sharpe": metrics.sharpe(benchmark),
    }


def write_result(run_dir: Path, parameters: dict[str, int], figures: dict[str, float]) -> None:
    """Write results/result.json into the run folder."""
    result = {
        "strategy": "sma_crossover",
        "parameters": parameters,
        # The last digits of a float differ between maths libraries and mean
        # nothing here; without them results compare across machines.
        "metrics": {name: round(value, 8) for name, value in figures.items()},
    }
    path = run_dir / "results" / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((json.dumps(result, indent=2, sort_keys=True) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Backtest a moving-average crossover.")
    parser.add_argument("--fast", type=int, default=10, metavar="N", help="days in the fast mean")
    parser.add_argument("--slow", type=int, default=50, metavar="N", help="days in the slow mean")
    parser.add_argument("--seed", type=int, default=3, metavar="N", help="seed of the price series")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN_DIR", help="run folder")
    args = parser.parse_args()

    config = settings.load(PARAMS)
    if not 1 <= args.fast < args.slow <= config.warmup_days:
        parser.error(f"the windows must satisfy 1 <= fast < slow <= {config.warmup_days}")

    figures = simulate(args.fast, args.slow, args.seed, config)
    parameters = {"fast": args.fast, "slow": args.slow, "seed": args.seed}
    write_result(args.output, parameters, figures)
    print(
        f"fast={args.fast} slow={args.slow}: sharpe {figures['sharpe']:.2f}, "
        f"return {figures['total_return']:.1%}, drawdown {figures['max_drawdown']:.1%}"
    )


if __name__ == "__main__":
    main()
