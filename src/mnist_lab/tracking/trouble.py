"""The name of the service that is away, from the errors of its clients."""

from __future__ import annotations

import re

from mnist_lab.errors import first_line

# Texts of urllib3 and requests, by their versions of 2026, and of botocore where clients write to S3.
_SILENT = ("timed out", "Read timeout", "ReadTimeoutError", "ConnectTimeout")
_STATUS = re.compile(r"too many (\d{3}) error|error code (\d{3})|\b(\d{3}) (?:Server|Client) Error")
_S3 = ("EndpointConnectionError", "S3UploadFailedError", "Could not connect to the endpoint")


def describe_trouble(error: BaseException) -> str:
    """Name the service that an error is of, and what it does; else the error's first line."""
    text = f"{type(error).__name__}: {error}"
    if any(word in text for word in _S3):
        return f"the artifact store S3 does not take files: {first_line(error)}"
    if "mlflow-artifacts" not in text:
        return first_line(error)
    found = _STATUS.search(text)
    if found is not None:
        return f"MLflow's artifact store answers {next(filter(None, found.groups()))}"
    if any(word in text for word in _SILENT):
        return "MLflow's artifact store does not answer"
    return f"MLflow's artifact store fails: {first_line(error)}"
