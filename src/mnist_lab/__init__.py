"""Declare a search space once, sweep it with Optuna, see it in MLflow, promote the best."""

__version__ = "0.1.0"
