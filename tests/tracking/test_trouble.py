"""The service that is away is named."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException

from mnist_lab.tracking import describe_trouble

ADDRESS = "http://lab:5000/api/2.0/mlflow-artifacts/artifacts/1/b2/artifacts/x.png"
POOL = f"API request to {ADDRESS} failed with exception HTTPConnectionPool(host='lab', port=5000)"


class EndpointConnectionError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            MlflowException(f"{POOL}: (Caused by ResponseError('too many 500 error responses'))"),
            "MLflow's artifact store answers 500",
        ),
        (
            MlflowException(f"{POOL}: Read timed out. (read timeout=10)"),
            "MLflow's artifact store does not answer",
        ),
        (MlflowException(f"{POOL}: broken pipe"), "MLflow's artifact store fails: MlflowException"),
        (
            EndpointConnectionError('Could not connect to the endpoint URL: "http://lab:8333/"'),
            "the artifact store S3 does not take files",
        ),
        (
            MlflowException(f"{POOL.replace('mlflow-artifacts', 'mlflow')}: Connection refused"),
            "MLflow's server does not answer",
        ),
        (MlflowException("RESOURCE_DOES_NOT_EXIST: Run"), "MlflowException: RESOURCE_DOES_NOT"),
    ],
)
def test_the_service_that_is_away_is_named(error, said):
    assert describe_trouble(error).startswith(said)
