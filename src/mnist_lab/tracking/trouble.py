"""The name of the service that is away, from the errors of its clients."""

from __future__ import annotations

import re

from mnist_lab.errors import first_line

# Texts of urllib3 and requests, by their versions of 2026, and of botocore where clients write to S3.
_SILENT = (
    "timed out",
    "ReadTimeoutError",
    "ConnectTimeout",
    "Connection refused",
    "RemoteDisconnected",
    "Connection reset",
)
_STATUS = re.compile(r"too many (\d{3}) error|error code (\d{3})|\b(\d{3}) (?:Server|Client) Error")
_S3 = ("EndpointConnectionError", "S3UploadFailedError", "Could not connect to the endpoint")


def describe_trouble(error: BaseException) -> str:
    """Name the service that an error is of, and what it does; else the error's first line."""
    text = f"{type(error).__name__}: {error}"
    if any(word in text for word in _S3):
        return f"the artifact store S3 does not take files: {first_line(error)}"
    if "API request to" not in text:
        return first_line(error)
    service = "artifact store" if "mlflow-artifacts" in text else "server"
    found = _STATUS.search(text)
    if found is not None:
        return f"MLflow's {service} answers {next(filter(None, found.groups()))}"
    if any(word in text for word in _SILENT):
        return f"MLflow's {service} does not answer"
    return f"MLflow's {service} fails: {first_line(error)}"
