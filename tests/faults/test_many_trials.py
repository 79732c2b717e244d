"""FAULTS 34: a study of 10,000 trials."""

from __future__ import annotations

import datetime
import json
import time
from collections import Counter

import optuna
import pytest
import sqlalchemy
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from sqlalchemy import event
from sqlalchemy.engine import Engine

from fakes import finished
from mnist_lab.config import SweepConfig
from mnist_lab.report import latest_study, leaderboard, list_studies
from mnist_lab.settings import Settings
from mnist_lab.spaces import get_space
from mnist_lab.study import TrialFacts, connect, create_study, make_record, open_study
from mnist_lab.study._optuna import Storage
from mnist_lab.sweep import launch
from mnist_lab.tracking import NullTracker

pytestmark = pytest.mark.timeout(900)
TRIALS = 10_000
# The promise is 5 s on an idle machine (2.8 s measured). What is asserted is true on a busy one, too.
MOST_STATEMENTS = 500  # of SQL; one a trial would be ten thousand


def fill(settings, dataset, *, trials, epochs=10):
    """A study as a sweep leaves it, written in bulk: its parameters are those of the space."""
    space = get_space("fnn")
    config = SweepConfig(space="fnn", epochs=epochs, study="big", dataset=dataset.source)
    study = create_study(connect(settings), make_record("big", config, space, dataset)).study
    now = datetime.datetime.now()
    point = space.baseline
    history = [
        {"epoch": e, "loss": 0.1, "accuracy": 0.9, "val_loss": 0.123456, "val_accuracy": 0.912345,
         "seconds": 9.1234567, "timestamp": 1764000000.123456 + e}
        for e in range(1, epochs + 1)
    ]  # fmt: skip
    scalars = finished(0, 3, 0.5).scalars | {f"val_recall_{digit}": 0.9 for digit in range(10)}
    attributes = {
        "start": {"seed": 1, "attempt": 1, "fruitless": 0, "epochs": 0},
        "history": history, "scalars": scalars, "environment": {},
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


@pytest.fixture
def work(monkeypatch):
    """Counts what is done meanwhile: statements of SQL, and how often each trial is parsed."""
    counted = Counter()
    parse = TrialFacts.read

    def counting(trial):
        counted[trial.number] += 1
        return parse(trial)

    def listen(*_):
        counted["statements"] += 1

    monkeypatch.setattr(TrialFacts, "read", counting)
    event.listen(Engine, "before_cursor_execute", listen)
    yield counted
    event.remove(Engine, "before_cursor_execute", listen)


@pytest.fixture(scope="module")
def optunas_seconds(tmp_path_factory, small_dataset):
    """What Optuna by itself takes to read as many trials: of its own work, not of the clock."""
    part = 10
    settings = Settings(home=tmp_path_factory.mktemp("part"))
    fill(settings, small_dataset, trials=TRIALS // part)
    began = time.process_time()
    study = optuna.load_study(study_name="big", storage=RDBStorage(settings.storage))
    assert len(study.get_trials(deepcopy=False)) == TRIALS // part
    return part * (time.process_time() - began)


@pytest.mark.slow
def test_the_leaderboard_of_ten_thousand_trials_takes_less_than_optunas_reading(
    big, work, optunas_seconds
):
    began = time.process_time()
    rows = leaderboard(open_study(big, "big"))
    assert time.process_time() - began < optunas_seconds
    assert work.pop("statements") < MOST_STATEMENTS
    assert set(work.values()) == {1}
    assert len(rows) == TRIALS
    assert rows[0].trial == TRIALS - 1
    assert latest_study(big) == "big"


@pytest.mark.slow
def test_the_list_of_studies_takes_less_than_optunas_reading(big, work, optunas_seconds):
    began = time.process_time()
    (row,) = list_studies(big)
    assert time.process_time() - began < optunas_seconds
    assert work.pop("statements") < MOST_STATEMENTS
    assert set(work.values()) == {1}
    assert row.complete == TRIALS


@pytest.mark.slow
def test_a_sweep_of_ten_thousand_trials_is_resumed_in_less_than_optunas_reading(
    big, work, optunas_seconds, small_dataset, monkeypatch
):
    monkeypatch.setenv("KERAS_BACKEND", "none")
    began, first = time.process_time(), []

    def listen(progress):
        if not first and progress.news:
            first.append((time.process_time() - began, Counter(work)))

    config = SweepConfig(
        space="fnn", epochs=10, study="big", dataset=small_dataset.source,
        trials=TRIALS + 2, sampler="random", workers=1,
    )  # fmt: skip
    result = launch(
        config, big, trainer="fakes:run_trial", listener=listen,
        make_tracker=lambda *_: NullTracker(),
    )  # fmt: skip
    assert result.finished == TRIALS + 2
    seconds, done = first[0]
    assert seconds < optunas_seconds
    assert done["statements"] < MOST_STATEMENTS
    # None is parsed twice but those that began meanwhile.
    assert {work[number] for number in range(TRIALS)} == {1}


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
