"""FAULTS R8: a team's PostgreSQL, MLflow server and S3, with nothing but their addresses at hand."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import warnings

import pytest

from mnist_lab.config import SweepConfig
from mnist_lab.publish import background, sync
from mnist_lab.settings import Settings
from mnist_lab.study import open_study
from mnist_lab.sweep import launch
from mnist_lab.tracking.store import open_client
from services import PG_CTL, WEED, Mlflow, Postgres, Process, Seaweed, free_ports, wait_for

from .conftest import states

pytestmark = [
    pytest.mark.skipif(PG_CTL is None, reason="there is no PostgreSQL here"),
    pytest.mark.skipif(WEED is None, reason="there is no SeaweedFS here"),
    pytest.mark.timeout(900),
    # Optuna leaves its connections to the process's end, when their server is gone.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Team:
    """The services, and homes that know their addresses alone."""

    def __init__(self, postgres, s3, mlflow):
        self.postgres, self.s3, self.mlflow = postgres, s3, mlflow

    @property
    def addresses(self):
        return {
            "MNIST_LAB_STORAGE": f"{self.postgres.address}/optuna",
            "MLFLOW_TRACKING_URI": self.mlflow.url,
        }

    def home(self, folder):
        return Settings(
            home=folder,
            storage_override=self.addresses["MNIST_LAB_STORAGE"],
            tracking_uri_override=self.addresses["MLFLOW_TRACKING_URI"],
        )


def gather(s3):
    """A team around an S3 server that has been started."""
    postgres = Postgres(free_ports(1)[0])
    postgres.start()
    postgres.create("optuna", "mlflow")
    mlflow = Mlflow(f"{postgres.address}/mlflow", s3.url)
    mlflow.start()
    return Team(postgres, s3, mlflow)


def part(team):
    team.mlflow.stop()
    team.s3.stop()
    team.postgres.close()
    with warnings.catch_warnings():  # Optuna leaves its connections to the process's end
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    s3 = Seaweed(tmp_path_factory.mktemp("s3"))
    s3.start()
    team = gather(s3)
    yield team
    part(team)


class Moto(Process):
    """An S3 of one process, which believes every key and keeps all in memory."""

    def __init__(self):
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        super().__init__([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)])

    def start(self):
        super().start()
        wait_for(f"{self.url}/moto-api/")


@pytest.fixture
def small_team():
    import boto3

    s3 = Moto()
    s3.start()
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    bucket = boto3.client("s3", endpoint_url=s3.url, **keys)
    bucket.create_bucket(Bucket="mlflow")
    team = gather(s3)
    team.bucket = bucket
    yield team
    part(team)


def run(config, settings, listener=lambda _: None, **changes):
    full = SweepConfig(**{**config, **changes})
    return launch(full, settings, trainer="fakes:run_trial", listener=listener)


def artifacts_of(settings, name="s"):
    """The files of each trial's run, as MLflow's server gives them."""
    client, study = open_client(settings), open_study(settings, name)
    return {
        number: {each.path for each in client.list_artifacts(tracked.run, "figures")}
        for number, tracked in study.tracked().items()
    }


def files_in(home):
    return [each for each in home.rglob("*") if each.is_file() and ".mnist-lab" not in each.parts]


def test_artifacts_are_in_s3_and_none_in_the_home(small_team, config, faults, tmp_path):
    home = tmp_path / "mine"
    result = run(config, small_team.home(home))
    assert (result.finished, result.lag.items) == (4, 0)
    found = small_team.bucket.list_objects_v2(Bucket="mlflow")["Contents"]
    assert sum(each["Key"].endswith("curves.png") for each in found) == 4
    assert files_in(home) == []


@pytest.mark.slow
def test_a_team_sweeps_promotes_and_predicts_from_folders_that_have_only_the_addresses(
    team, tmp_path
):
    def lab(folder, *words):
        (tmp_path / folder).mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, "-m", "mnist_lab", *words],
            cwd=tmp_path / folder,
            env={**os.environ, **team.addresses, "MNIST_LAB_HOME": str(tmp_path / folder)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    lab("one", "sweep", "fnn", "--trials", "2", "--epochs", "8", "--dataset", "digits")
    name = "digits-fnn-v2-8ep"
    promoted = lab("one", "promote", name, "--top", "1", "--force")
    assert "digits-fnn@champion is now version 1" in promoted
    assert name in lab("two", "studies")
    assert "1" in lab("two", "models")
    answer = lab("two", "evaluate", "digits-fnn@champion")
    assert "%" in answer
    assert "Nothing is wrong." in lab("two", "doctor")
    for folder in ("one", "two"):
        kinds = {each.suffix for each in files_in(tmp_path / folder)}
        assert kinds <= {".html"}, kinds  # the reports


@pytest.mark.slow
def test_an_s3_that_is_away_costs_no_training_and_sync_closes_the_gap(
    team, config, faults, tmp_path
):
    home = team.home(tmp_path / "away")
    team.s3.stop()
    result = run(config, home, study="away")
    assert (result.finished, result.stopped) == (4, None)
    # The server waits for S3 with every thread: it may be the one that does not answer.
    assert re.match(
        "MLflow's (artifact store|server) (answers 500|does not answer)", result.lag.why
    )
    (row,) = sync(home, "away")
    assert "MLflow's artifact store answers 500" in row.note
    team.s3.start()
    assert sync(home, "away")[0].failed is False
    assert states(open_study(home, "away")) == ["COMPLETE"] * 4
    assert all("figures/curves.png" in each for each in artifacts_of(home, "away").values())


@pytest.mark.slow
def test_an_s3_that_hangs_costs_no_training(team, config, faults, tmp_path, monkeypatch):
    monkeypatch.setattr(background, "PATIENCE_SECONDS", 5.0)
    home = team.home(tmp_path / "hangs")
    team.s3.signal(signal.SIGSTOP)
    try:
        result = run(config, home, study="hangs")
        assert (result.finished, result.stopped) == (4, None)
        assert result.lag.items > 0
    finally:
        team.s3.signal(signal.SIGCONT)
    assert sync(home, "hangs")[0].failed is False
    assert all("figures/curves.png" in each for each in artifacts_of(home, "hangs").values())
