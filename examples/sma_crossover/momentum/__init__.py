"""A small trend-following library: prices, signals, sizing, backtest, metrics."""
