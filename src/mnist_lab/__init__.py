"""Declare a search space once, sweep it with Optuna, see it in MLflow, promote the best."""

import os

# Nothing leaves the machine by default. Here, because MLflow reads it while it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__version__ = "0.1.0"
