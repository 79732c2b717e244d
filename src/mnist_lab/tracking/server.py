"""The server of ``mnist-lab ui``: MLflow's, with the pages of ``mlflow ui`` and safe flags."""

from __future__ import annotations

import os
import sys

from mnist_lab.settings import Settings


def server_command(settings: Settings, port: int) -> list[str]:
    """Return the command line: loopback, one worker, and explicit host names.

    MLflow's default patterns (``10.*`` and such) match ``10.evil.example`` too, so a page elsewhere
    could reach the server through a rebound name.
    """
    hosts = ",".join(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--workers", "1", "--allowed-hosts", hosts]
    words += ["--backend-store-uri", settings.tracking_uri]
    words += ["--default-artifact-root", settings.artifact_root.as_uri()]
    return [*words, "--uvicorn-opts", "--log-level warning"]


def server_environment() -> dict[str, str]:
    """Return this process's environment, with telemetry, jobs, AI gateway and warnings off."""
    return {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
        "PYTHONWARNINGS": "ignore",  # MLflow 3.17's own, of libraries that it will have to leave
    }
