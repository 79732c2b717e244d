"""FAULTS 34: a study of 10,000 trials."""

from __future__ import annotations

import datetime
import json
import time

import optuna
import pytest
import sqlalchemy
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models

from fakes import finished, study_record
from mnist_lab.report import latest_study, leaderboard, list_studies
from mnist_lab.settings import Settings
from mnist_lab.spaces import get_space
from mnist_lab.study import ledger
from mnist_lab.study._optuna import Storage
from mnist_lab.study.config import SweepConfig
from mnist_lab.study.open import create_study, open_study
from mnist_lab.study.record import fingerprint
from mnist_lab.study.storage import connect
from mnist_lab.sweep import launch
from mnist_lab.tracking import NullTracker

TRIALS = 10_000
# The promise is 5 s on an idle machine (2.8 s measured); the suite runs three processes on two cores.
MOST_SECONDS = 60.0  # five on an idle machine; a guard against hanging on a busy one with coverage


def fill(settings, dataset, *, trials, epochs=10):
    """A study as a sweep leaves it, written in bulk: its parameters are those of the space."""
    space = get_space("fnn")
    config = SweepConfig(space="fnn", epochs=epochs, study="big", dataset=dataset.source)
    study = create_study(connect(settings), "big", fingerprint(config, space, dataset), pruner=None)
    ledger.write_study(study, study_record(name="big"))
    now = datetime.datetime.now()
    point = space.baseline
    history = [
        {"epoch": e, "loss": 0.1, "accuracy": 0.9, "val_loss": 0.123456, "val_accuracy": 0.912345,
         "seconds": 9.1234567, "timestamp": 1764000000.123456 + e}
        for e in range(1, epochs + 1)
    ]  # fmt: skip
    scalars = finished(0, 3, 0.5).scalars | {f"val_recall_{digit}": 0.9 for digit in range(10)}
    attributes = {
        "seed": 1, "attempt": 1, "history": history, "scalars": scalars, "best_epoch": 3,
    }  # fmt: skip
    rows = range(1, trials + 1)
    tables = {
        models.TrialModel: [
            {"trial_id": i, "number": i - 1, "study_id": study._study_id, "state": "COMPLETE",
             "datetime_start": now, "datetime_complete": now}
            for i in rows
        ],
        models.TrialParamModel: [
            {"trial_id": i, "param_name": name,
             "param_value": space.distributions[name].to_internal_repr(value),
             "distribution_json": distribution_to_json(space.distributions[name])}
            for i in rows
            for name, value in point.items()
        ],
        models.TrialValueModel: [
            {"trial_id": i, "objective": 0, "value": i / (trials + 1), "value_type": "FINITE"}
            for i in rows
        ],
        models.TrialIntermediateValueModel: [
            {"trial_id": i, "step": epoch, "intermediate_value": 0.912345,
             "intermediate_value_type": "FINITE"}
            for i in rows
            for epoch in range(1, epochs + 1)
        ],
        models.TrialUserAttributeModel: [
            {"trial_id": i, "key": key, "value_json": json.dumps(value)}
            for i in rows
            for key, value in attributes.items()
        ],
        models.StudyUserAttributeModel: [
            {"study_id": study._study_id, "key": f"run:{i - 1}",
             "value_json": json.dumps({"run": f"r{i}", "closed": True})}
            for i in rows
        ],
    }  # fmt: skip
    with connect(settings).engine.begin() as connection:
        for model, content in tables.items():
            connection.execute(sqlalchemy.insert(model.__table__), content)


@pytest.fixture(scope="module")
def big(tmp_path_factory, small_dataset):
    settings = Settings(home=tmp_path_factory.mktemp("big"))
    fill(settings, small_dataset, trials=TRIALS)
    return settings


def test_the_leaderboard_of_ten_thousand_trials_is_there_in_five_seconds(big):
    began = time.monotonic()
    rows = leaderboard(open_study(big, "big"))
    assert time.monotonic() - began < MOST_SECONDS
    assert latest_study(big) == "big"
    assert len(rows) == TRIALS
    assert rows[0].trial == TRIALS - 1


def test_the_list_of_studies_is_there_in_five_seconds(big):
    began = time.monotonic()
    (row,) = list_studies(big)
    assert time.monotonic() - began < MOST_SECONDS
    assert row.complete == TRIALS


def test_a_sweep_of_ten_thousand_trials_is_resumed_in_five_seconds(big, small_dataset, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "none")
    began, first = time.monotonic(), []

    def listen(progress):
        if not first and progress.news:
            first.append(time.monotonic() - began)

    config = SweepConfig(
        space="fnn", epochs=10, study="big", dataset=small_dataset.source,
        trials=TRIALS + 2, sampler="random", workers=1,
    )  # fmt: skip
    result = launch(
        config, big, trainer="fakes:run_trial", listener=listen,
        make_tracker=lambda *_: NullTracker(),
    )  # fmt: skip
    assert result.finished == TRIALS + 2
    assert first[0] < MOST_SECONDS + 2  # a worker's start is in it


def test_a_study_is_read_as_optuna_itself_reads_it(tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.create_study(storage=url, study_name="s", direction="maximize")
    distributions = {
        "x": FloatDistribution(0, 1),
        "n": optuna.distributions.IntDistribution(1, 9),
        "c": optuna.distributions.CategoricalDistribution(("a", 2, None)),
    }
    study.enqueue_trial({"x": 0.5}, user_attrs={"baseline": True})
    for number in range(5):
        trial = study.ask(distributions)
        trial.report(0.1 * number, 1)
        trial.report(float("nan"), 2)
        trial.set_user_attr("history", [{"a": 1}])
        if number < 3:
            study.tell(trial, float("inf") if number == 1 else 0.5 * number)
        elif number == 3:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    optunas, ours = RDBStorage(url), Storage(url)
    identity = optunas.get_study_id_from_name("s")
    assert repr(ours.get_all_trials(identity)) == repr(optunas.get_all_trials(identity))
