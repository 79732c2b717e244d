"""Homes that earlier commits wrote, opened at another place by the commands of today.

``homes/make_f10d576.py`` says how the home was made and what is in it: study ``old`` of six trials
(three complete, one pruned, one failed, one killed after its first epoch), its confirmation, and
version 1 of ``mnist-fnn``, the champion.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState

from mnist_lab.cli import main

ARCHIVE = Path(__file__).parent / "homes" / "f10d576.tar.xz"
WRITTEN_IN = "/tmp/lab/home"
SWEEP = (
    *("sweep", "fnn", "--study", "old", "--epochs", "3", "--workers", "1", "--keep-models", "1"),
    *("--set", "hidden_layers=1", "--set", "units_1=32", "--set", "batch_size=512"),
)
FEW = ("--top", "2", "--workers", "1")
KILLED = 5  # the trial that was running


class Home:
    """A home, and the commands typed for it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def type_in(self, *words: str, code: int = 0) -> str:
        """Type a command in this process: what it prints."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setenv("MNIST_LAB_HOME", str(self.root))
            patch.chdir(self.root.parent)
            patch.setattr(sys, "argv", ["mnist-lab", *words])
            with pytest.raises(SystemExit) as end:
                main()
        assert (end.value.code or 0) == code, out.getvalue() + err.getvalue()
        return out.getvalue()

    def type_in_process(self, *words: str) -> str:
        """Type a command that sets up TensorFlow, which the suite may have done otherwise."""
        done = subprocess.run(
            [sys.executable, "-m", "mnist_lab", *words],
            env={**os.environ, "MNIST_LAB_HOME": str(self.root)},
            cwd=self.root.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def json(self, *words: str, code: int = 0):
        return json.loads(self.type_in(*words, "--json", code=code))

    def trials(self, study: str = "old") -> list[optuna.trial.FrozenTrial]:
        """The trials as plain Optuna reads them."""
        storage = f"sqlite:///{self.root / 'optuna.db'}"
        return optuna.load_study(study_name=study, storage=storage).trials

    def trial_runs(self) -> list[Run]:
        """The search's trials as plain MLflow reads them."""
        client = self._client
        (experiment,) = client.search_experiments(filter_string="name LIKE 'mnist-lab/%'")
        wanted = "tags.`mnist_lab.level` = 'trial'"
        return client.search_runs([experiment.experiment_id], filter_string=wanted)

    @property
    def champion(self) -> int:
        return int(self._client.get_model_version_by_alias("mnist-fnn", "champion").version)

    @property
    def _client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=f"sqlite:///{self.root / 'mlflow.db'}")


def unpack(folder: Path) -> Home:
    assert not Path(WRITTEN_IN).exists()  # else the home would not be a moved one
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return Home(folder / "home")


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The old home; what ``doctor`` finds before and after a repair; the epoch before the kill."""
    home = unpack(tmp_path_factory.mktemp("moved"))
    found = home.json("doctor", code=1)
    left = home.json("doctor", "--repair")
    epoch = home.trials()[KILLED].user_attrs["history"][0]
    return SimpleNamespace(home=home, found=found, left=left, first_epoch=epoch)


@pytest.fixture(scope="module")
def swept(old):
    """What a sweep says that resumes the old study to seven trials."""
    return old.home.json(*SWEEP, "--trials", "7")


@pytest.fixture
def repaired(tmp_path):
    """An old home for one test, repaired."""
    home = unpack(tmp_path)
    home.type_in("doctor", "--repair")
    return home


@pytest.fixture
def digits(tmp_path):
    """A file with 200 test images, and their labels."""
    file = tmp_path / "digits.npy"
    with np.load(files("mnist_lab.data") / "mnist.npz") as mnist:
        np.save(file, mnist["x_test"][:200])
        return file, mnist["y_test"][:200]


def test_an_old_study_is_listed(tmp_path):
    home = unpack(tmp_path)
    (study,) = home.json("studies")
    states = Counter(trial.state for trial in home.trials())
    assert (study["study"], study["space"], study["epochs"]) == ("old", "fnn-v2", 3)
    assert (study["complete"], study["pruned"], study["failed"], study["unfinished"]) == (
        states[TrialState.COMPLETE],
        states[TrialState.PRUNED],
        states[TrialState.FAIL],
        states[TrialState.RUNNING],
    )


def test_an_old_leaderboard_has_its_ranks_and_values(tmp_path):
    home = unpack(tmp_path)
    complete = [trial for trial in home.trials() if trial.state == TrialState.COMPLETE]
    best_first = sorted(complete, key=lambda trial: -trial.value)
    rows = home.json("leaderboard", "old")
    assert len(rows) >= 2
    assert [(row["trial"], row["val_accuracy"], row["params"]) for row in rows] == [
        (trial.number, trial.value, trial.params) for trial in best_first
    ]


def test_the_move_of_an_old_home_is_found(old):
    sought = f"artifacts are sought in {WRITTEN_IN}/mlruns, and lie in {old.home.root}/mlruns"
    assert sought in [finding["problem"] for finding in old.found]


def test_nothing_is_wrong_with_an_old_home_after_its_repair(old):
    assert old.left == []


def test_an_old_study_is_resumed_to_a_higher_total(swept):
    assert (swept["finished"], swept["reasons"]) == (7, {"timeout": 1})
    assert swept["lag"]["items"] == 0


def test_a_trial_goes_on_from_an_old_checkpoint(swept, old):
    trial = old.home.trials()[KILLED]
    assert trial.state == TrialState.COMPLETE
    # Seconds and time of day are in it: an epoch that is trained again has others.
    assert old.first_epoch.items() <= trial.user_attrs["history"][0].items()


@pytest.mark.slow
def test_the_old_champion_predicts(old, digits):
    file, labels = digits
    words = ("predict", "mnist-fnn@champion", str(file), "--json")
    said = json.loads(old.home.type_in_process(*words))
    predicted = np.array([each["label"] for each in said["predictions"]])
    assert said["model"] == "mnist-fnn/1"
    assert (predicted == labels).mean() >= 0.85


@pytest.mark.slow  # MLflow's schema is created, which takes seconds
def test_sync_writes_an_old_study_into_an_empty_tracker(tmp_path):
    home = unpack(tmp_path)
    (home.root / "mlflow.db").unlink()
    shutil.rmtree(home.root / "mlruns")
    assert [(row["study"], row["written"]) for row in home.json("sync")] == [
        ("old", 6),
        ("old+confirm", 4),
    ]
    assert [row["written"] for row in home.json("sync")] == [0, 0]
    states = Counter(run.data.tags["mnist_lab.state"] for run in home.trial_runs())
    assert states == {"complete": 3, "pruned": 1, "failed": 1, "interrupted": 1}


@pytest.mark.slow  # trains three replicas
def test_an_old_confirmation_is_kept_beside_the_new(repaired):
    former = {trial.number: trial.value for trial in repaired.trials("old+confirm")}
    assert len(former) == 4
    found = repaired.json("confirm", "old", *FEW)
    assert [len(row["accuracies"]) for row in found["rows"]] == [2, 1]
    replicas = repaired.trials("old+confirm")
    assert len(replicas) == 7
    assert {trial.number: trial.value for trial in replicas[:4]} == former


@pytest.mark.slow  # resumes the study, trains replicas of it and of the old champion
def test_a_study_is_promoted_over_the_old_champion_and_taken_back(repaired):
    before = repaired.json("models", "mnist-fnn")
    sweep = [words if words != "old" else "new" for words in SWEEP]
    repaired.type_in(*sweep, "--trials", "1")
    words = ("promote", "new", "--top", "1", "--force", "--json")
    promoted = json.loads(repaired.type_in_process(*words))
    assert (promoted["promoted"], promoted["version"]) == (True, 2)
    decision = promoted["decision"]
    assert (decision["champion"], decision["openings"]) == (1, before["test_openings"] + 1)
    assert decision["judgement"]["test"]["challenge"] == 1
    parts = [trial.user_attrs.get("left_out") for trial in repaired.trials("old+confirm")]
    assert {2, 3, 4} <= set(parts)
    assert repaired.champion == 2
    repaired.type_in("rollback", "mnist-fnn")
    assert repaired.champion == 1
    assert repaired.json("doctor") == []


def test_a_sweep_in_a_moved_home_is_refused_until_the_home_is_repaired(repaired, tmp_path):
    former, repaired.root = repaired.root, tmp_path / "moved"
    former.rename(repaired.root)
    repaired.type_in(*SWEEP, "--trials", "5", code=78)
    assert not former.exists()
    repaired.type_in("doctor", "--repair")
    repaired.type_in(*SWEEP, "--trials", "5")
    assert not former.exists()
