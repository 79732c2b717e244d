"""What optuna-dashboard is shown of a study."""

from __future__ import annotations

import json

import optuna
import pytest

from mnist_lab.cli.dashboard import require_local
from mnist_lab.study import ReadableStorage, connect
from mnist_lab.study._optuna import METRIC_NAMES
from studies import make_study


@pytest.fixture
def storage(settings, small_dataset):
    make_study(settings, small_dataset, 12)
    opened = connect(settings, ReadableStorage)
    opened.notes = {"s": "**Good.** " * 400}
    return opened


def test_the_objective_has_its_name_also_in_plain_optuna(storage, settings):
    assert optuna.load_study(study_name="s", storage=settings.storage).metric_names == [
        "val_accuracy"
    ]
    study = storage.get_all_studies()[0]
    assert study.system_attrs[METRIC_NAMES] == ["val_accuracy"]


def test_attributes_are_what_people_read_and_the_rest_is_one(storage):
    trial = storage.get_all_trials(1)[0]
    assert trial.user_attrs["parameters"] > 0
    assert trial.user_attrs["baseline"] is True
    assert all(
        isinstance(value, str | int | float | bool)
        for name, value in trial.user_attrs.items()
        if name != "mnist-lab"
    )
    study = storage.get_study_user_attrs(1)
    assert study["space"] == "fnn-v2"
    assert all(isinstance(value, str | int) for value in study.values())


def test_nothing_of_it_is_written(storage, settings):
    before = optuna.load_study(study_name="s", storage=settings.storage)
    storage.get_all_studies()
    storage.get_all_trials(1)
    after = optuna.load_study(study_name="s", storage=settings.storage)
    assert after.user_attrs == before.user_attrs
    assert after.trials[0].user_attrs == before.trials[0].user_attrs
    assert "dashboard:note_ver" not in connect(settings).get_study_system_attrs(1)


def test_a_study_of_another_program_is_shown_as_it_is(storage, settings):
    other = optuna.create_study(storage=settings.storage, study_name="theirs")
    other.set_user_attr("mine", [1, 2])
    assert storage.get_study_user_attrs(other._study_id) == {"mine": [1, 2]}


def test_the_dashboard_itself_shows_note_and_name(storage):
    dashboard = pytest.importorskip("optuna_dashboard")
    answers = {}

    def start(status, headers, *_):
        answers["status"] = status

    request = {"PATH_INFO": "/api/studies/1", "REQUEST_METHOD": "GET", "QUERY_STRING": "",
               "SERVER_NAME": "localhost", "SERVER_PORT": "80", "wsgi.url_scheme": "http"}  # fmt: skip
    body = dashboard.wsgi(storage)(request, start)
    found = json.loads(b"".join(body))
    assert answers["status"].startswith("200")
    assert found["note"]["body"] == "**Good.** " * 400
    assert found["objective_names"] == ["val_accuracy"]
    assert len(found["trials"]) == 12


def test_a_note_that_was_written_in_the_dashboard_is_left(storage):
    dashboard = pytest.importorskip("optuna_dashboard")
    study = optuna.load_study(study_name="s", storage=storage)
    dashboard.save_note(study, "my own")
    assert dashboard.get_note(study) == "my own"


def test_requests_by_another_name_are_refused():
    answers = []
    application = require_local(lambda *_: [b"shown"], 8080)
    for host in ("127.0.0.1:8080", "localhost:8080"):
        assert application({"HTTP_HOST": host}, None) == [b"shown"]
    refused = application({"HTTP_HOST": "evil.example:8080"}, lambda *said: answers.append(said[0]))
    assert refused != [b"shown"]
    assert answers == ["403 Forbidden"]
