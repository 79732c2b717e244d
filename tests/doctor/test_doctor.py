"""What the doctor finds, and what is left after its repair. FAULTS 30 and 31 among it."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import mlflow.cli
import optuna
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from optuna.trial import TrialState

from fakes import study_record, trial_record
from mnist_lab.config import SweepConfig
from mnist_lab.doctor import Finding, examine, machine, repair
from mnist_lab.errors import ConfigurationError
from mnist_lab.publish import sync
from mnist_lab.settings import Settings
from mnist_lab.study.open import open_study
from mnist_lab.study.storage import OtherOptunaError, connect
from mnist_lab.sweep import launch
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.tracking.store import open_client
from mnist_lab.tracking.views import VIEW_TAG
from mnist_lab.training import Checkpoint, Checkpoints


@pytest.fixture
def swept(settings, small_file, monkeypatch):
    """A finished study of three trials, with everything about it in order."""
    monkeypatch.setenv("KERAS_BACKEND", "none")
    monkeypatch.setattr("mnist_lab.execution.inline.configure", lambda _: None)
    config = SweepConfig(
        space="fnn",
        trials=3,
        epochs=2,
        pruner="none",
        dataset=str(small_file),
        study="s",
        executor="inline",
    )
    launch(config, settings, trainer="fakes:run_trial")
    return settings


def problems(settings):
    return [finding.problem for finding in examine(settings)]


def repaired(settings):
    repair(examine(settings))
    return problems(settings)


def test_where_all_is_well_nothing_is_found(swept):
    assert examine(swept) == []


def test_a_saved_view_is_removed_with_its_study(swept):
    client = open_client(swept)
    experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn")
    assert any(tag.startswith(VIEW_TAG) for tag in experiment.tags)
    optuna.delete_study(study_name="s", storage=swept.storage)
    assert "its study is not in this storage" in problems(swept)
    assert "its study is not in this storage" not in repaired(swept)
    experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn")
    assert not any(tag.startswith(VIEW_TAG) for tag in experiment.tags)


def test_an_empty_folder_is_well(settings):
    assert examine(settings) == []


@pytest.mark.slow
def test_runs_that_mlflow_lost_are_replayed(swept, client):
    run = open_study(swept, "s").find_run(1)
    client.delete_run(run)
    assert problems(swept) == ["MLflow is not as the study: 1 trials missing"]
    assert repaired(swept) == []
    again = open_study(swept, "s").find_run(1)
    assert again != run
    points = client.get_metric_history(again, "val_accuracy")
    assert [point.step for point in points] == [1, 2]


def test_a_run_that_says_running_though_its_trial_has_ended_is_closed(swept, client):
    client.update_run(open_study(swept, "s").find_run(0), status="RUNNING")
    said = "MLflow is not as the study: 1 trials running instead of complete"
    assert problems(swept) == [said]
    assert repaired(swept) == []


def test_a_study_whose_run_says_running_is_closed(swept, client):
    record = open_study(swept, "s").record
    client.update_run(MlflowTracker(client).find_study(record).run, status="RUNNING")
    said = "MLflow is not as the study: the study's run is running instead of complete"
    assert problems(swept) == [said]
    assert repaired(swept) == []


def test_a_run_whose_study_is_gone_is_marked_as_interrupted(swept, client):
    tracker = MlflowTracker(client)
    stranger = study_record(id="gone", dataset="tiny")
    parent = tracker.open_study(stranger)
    run = tracker.open_trial(stranger, parent, trial_record())
    says_running = "says RUNNING, and its study is not in this storage"
    assert [each for each in problems(swept) if "RUNNING" in each] == [says_running] * 2
    assert repaired(swept) == []
    assert client.get_run(run).info.status == "KILLED"
    assert client.get_run(run).data.tags["mnist_lab.state"] == "interrupted"


def test_a_model_that_was_never_logged_whole_is_deleted(swept, client):
    experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn").experiment_id
    client.create_logged_model(experiment, name="half")
    assert problems(swept) == ["was never logged whole"]
    assert repaired(swept) == []


def test_a_folder_left_by_an_ended_trial_is_deleted(swept):
    left = swept.work / "s" / "trial-0001" / "checkpoints"
    left.mkdir(parents=True)
    assert problems(swept) == ["left over from a trial that has ended"]
    assert repaired(swept) == []
    assert not left.parent.exists()


def test_the_data_that_a_killed_sweep_shared_with_its_workers_are_deleted(swept):
    left = swept.work / "s" / "data"
    left.mkdir()
    assert problems(swept) == ["left over from a sweep that was killed"]
    assert repaired(swept) == []
    assert not left.exists()


def test_a_damaged_checkpoint_is_deleted_and_the_one_before_is_kept(swept):
    study = open_study(swept, "s")
    number = study.study.ask().number
    study.write(number).start(seed=0, attempt=1)
    folder = swept.work / "s" / f"trial-{number:04d}" / "checkpoints"
    for epoch in (1, 2):
        Checkpoints(folder, "me").save(Checkpoint(epoch=epoch, arrays={}, state={}))
    (folder / "epoch-0002" / "state.json").write_text("")
    found = problems(swept)
    assert "1 trials missing" in found[0]  # the trial was begun behind MLflow's back
    assert "not a whole checkpoint" in found[1]
    assert repaired(swept) == []
    assert [each.name for each in folder.iterdir()] == ["epoch-0001"]
    assert study.trial(number).state == TrialState.RUNNING


@pytest.mark.slow
def test_a_registered_model_whose_file_has_changed_is_named(swept, client):
    run = open_study(swept, "s").find_run(1)
    model = client.get_run(run).data.tags["mnist_lab.model"]
    client.create_registered_model("m")
    digest = client.get_logged_model(model).tags["mnist_lab.sha256"]
    tags = {"mnist_lab.study": "s", "mnist_lab.sha256": digest}
    client.create_model_version("m", f"models:/{model}", run_id=run, model_id=model, tags=tags)
    client.set_registered_model_alias("m", "champion", "1")
    # What the fake trainer left is no .keras archive.
    assert "is refused" in problems(swept)[0]
    location = client.get_logged_model(model).artifact_location.removeprefix("file://")
    with open(f"{location}/data/model.keras", "ab") as opened:
        opened.write(b"!")
    assert "is refused" in problems(swept)[0]
    shutil.rmtree(location)
    assert "cannot be fetched" in problems(swept)[0]


def test_a_moved_folder_is_found_and_mended(swept, tmp_path, wait_until):
    moved = Settings(home=tmp_path / "elsewhere")
    shutil.move(swept.root, moved.root)
    (finding,) = [each for each in examine(moved) if "artifacts are sought" in each.problem]
    assert str(swept.artifact_root) in finding.problem
    assert repaired(moved) == []
    client = MlflowClient(tracking_uri=moved.tracking_uri)
    run = open_study(moved, "s").find_run(0)
    assert [file.path for file in client.list_artifacts(run)] == ["figures"]
    copies = list(moved.root.glob("mlflow.db.before-*"))
    assert len(copies) == 1


@pytest.mark.slow
def test_after_a_move_a_version_is_found_where_it_lies_now(swept, client, tmp_path):
    run = open_study(swept, "s").find_run(1)
    model = client.get_run(run).data.tags["mnist_lab.model"]
    location = client.get_logged_model(model).artifact_location
    client.create_registered_model("m")
    client.create_model_version("m", f"models:/{model}", run_id=run)
    client.create_model_version("m", location, run_id=run)  # by a path
    moved = Settings(home=tmp_path / "elsewhere")
    shutil.move(swept.root, moved.root)
    repair(examine(moved))
    again = open_client(moved)
    uris = [again.get_model_version_download_uri("m", number) for number in ("1", "2")]
    assert all(uri.startswith(moved.artifact_root.as_uri()) for uri in uris)
    assert again.get_model_version("m", "2").source == uris[1]


def test_a_deleted_experiment_is_named_with_a_command_that_restores_it(
    swept, client, tmp_path, monkeypatch
):
    client.delete_experiment(client.get_experiment_by_name("mnist-lab/tiny-fnn").experiment_id)
    (finding,) = examine(swept)
    assert "was deleted in MLflow" in finding.problem
    variable, *words = shlex.split(finding.advice.removeprefix("Type: "))
    assert words[:3] == ["mlflow", "experiments", "restore"]
    monkeypatch.setenv(*variable.split("=", 1))
    done = CliRunner().invoke(mlflow.cli.cli, words[1:])
    assert done.exit_code == 0, done.output
    assert examine(swept) == []


def test_a_deleted_experiment_is_named_by_sync_and_other_studies_are_written(
    swept, client, small_file
):
    config = SweepConfig(
        space="cnn", trials=1, epochs=1, dataset=str(small_file), study="other", workers=1
    )
    launch(config, swept, trainer="fakes:run_trial")
    client.delete_run(open_study(swept, "other").find_run(0))
    client.delete_experiment(client.get_experiment_by_name("mnist-lab/tiny-fnn").experiment_id)
    other, lost = sync(swept)
    assert (other.written, other.failed) == (1, False)
    assert lost.failed
    assert "mlflow experiments restore --experiment-id" in lost.note


def test_a_deleted_experiment_is_named_at_the_end_of_a_sweep(swept, client, small_file):
    client.delete_experiment(client.get_experiment_by_name("mnist-lab/tiny-fnn").experiment_id)
    config = SweepConfig(
        space="fnn", trials=4, epochs=2, pruner="none", dataset=str(small_file), study="s", workers=1
    )  # fmt: skip
    result = launch(config, swept, trainer="fakes:run_trial")
    assert result.finished == 4
    assert "mlflow experiments restore --experiment-id" in result.lag.why


def set_schema(settings, revision):
    with closing(sqlite3.connect(settings.root / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_an_older_schema_is_refused_with_the_command_that_upgrades_it(settings):
    set_schema(settings, "0584bdc529eb")
    with pytest.raises(ConfigurationError, match=r"Copy the file, then type: mlflow db upgrade"):
        open_client(settings)
    (finding,) = examine(settings)
    assert finding.repair is not None
    assert "has schema 0584bdc529eb" in finding.problem


def test_a_newer_schema_is_refused_and_cannot_be_repaired(settings):
    set_schema(settings, "fffffffffff1")
    with pytest.raises(ConfigurationError, match="A newer MLflow made it") as caught:
        open_client(settings)
    assert caught.value.exit_code == 78
    (finding,) = examine(settings)
    assert finding.repair is None


def test_an_upgrade_copies_the_file_first(settings, monkeypatch):
    from mnist_lab.doctor import store

    set_schema(settings, "0584bdc529eb")
    called = []

    def upgrade(words, **_):
        called.append(words[-1])
        set_schema(settings, store.schema_problem(settings).text.split()[-1])

    monkeypatch.setattr(store.subprocess, "run", upgrade)
    repair(examine(settings))
    assert called == [settings.tracking_uri]
    assert len(list(settings.root.glob("mlflow.db.before-*"))) == 1
    assert examine(settings) == []


def set_optunas_schema(settings, revision):
    with closing(sqlite3.connect(settings.root / "optuna.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_a_study_storage_of_an_older_optuna_is_copied_and_upgraded(settings):
    optuna.create_study(storage=settings.storage, study_name="theirs")
    with closing(sqlite3.connect(settings.root / "optuna.db")) as database, database:
        for (index,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'trials'"
        ).fetchall():
            database.execute(f"DROP INDEX {index}")  # all that Optuna 3.2 has changed
    set_optunas_schema(settings, "v3.0.0.d")
    with pytest.raises(OtherOptunaError, match="An older Optuna") as caught:
        connect(settings)
    assert caught.value.next_step.endswith("mnist-lab doctor --repair")
    assert repair(examine(settings)) == []
    assert len(list(settings.root.glob("optuna.db.before-*"))) == 1
    assert examine(settings) == []
    assert optuna.get_all_study_names(connect(settings)) == ["theirs"]


def test_a_study_storage_of_a_newer_optuna_is_refused_and_cannot_be_repaired(settings):
    set_optunas_schema(settings, "v9.9.9.a")
    with pytest.raises(OtherOptunaError, match="A newer Optuna"):
        connect(settings)
    (finding,) = examine(settings)
    assert finding.repair is None


def test_a_server_of_an_older_optuna_is_upgraded_by_hand_and_its_password_is_not_shown(tmp_path):
    url = "postgresql://me:secret@host/studies"
    error = OtherOptunaError(Settings(home=tmp_path, storage_override=url), is_older=True)
    assert error.file is None
    assert 'optuna storage upgrade --storage "$MNIST_LAB_STORAGE"' in error.next_step
    assert "secret" not in str(error)


def test_packages_of_another_version_are_named(monkeypatch):
    monkeypatch.setattr(machine, "version", lambda name: "0.1" if name == "optuna" else "99999")
    monkeypatch.setattr(machine, "requires", lambda _: ["optuna>=5", "x>=1; extra == 'gp'"])
    (finding,) = machine.check_versions()
    assert finding.problem == "version 0.1 is installed, >=5 is needed"


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(machine, "requires", lambda _: ["no-such-package>=1"])
    (finding,) = machine.check_versions()
    assert "version none is installed" in finding.problem


def test_a_disk_that_is_nearly_full_is_named(settings, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    (finding,) = machine.check_disk(settings)
    assert finding.problem == "only 1,000 bytes are free on its disk"


def test_a_tracking_server_that_does_not_answer_is_a_finding(settings, free_port):
    remote = Settings(home=settings.root, tracking_uri_override=f"http://127.0.0.1:{free_port}")
    assert any("does not answer" in problem for problem in problems(remote))


def test_a_study_that_is_being_swept_is_left_alone(swept, client):
    client.delete_run(open_study(swept, "s").find_run(1))
    script = "import sys; from mnist_lab.settings import Settings\n"
    script += (
        "from mnist_lab.study.lock import lock_study\n"
        "with lock_study(Settings(home=sys.argv[1]), 's'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, str(swept.root)]
    with subprocess.Popen(words, stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"held\n"
        assert problems(swept) == []
        other.kill()
    assert problems(swept) == ["MLflow is not as the study: 1 trials missing"]


def test_what_one_repair_cannot_do_does_not_keep_the_next_from_being_done(swept):
    left = swept.work / "s" / "trial-0001"
    left.mkdir()

    def fail():
        raise RuntimeError("no")

    bad = Finding(subject="x", problem="broken", advice="a", repair=fail)
    (resisted,) = repair([bad, *examine(swept)])
    assert resisted.problem == "broken; repairing it failed: RuntimeError: no"
    assert not left.exists()


@pytest.mark.slow
def test_files_of_another_study_of_the_same_name_are_left_alone(swept):
    left = swept.work / "s" / "trial-0001"
    left.mkdir()
    (swept.work / "s" / "study-id").write_text("another")
    assert problems(swept) == ["has files of a study that is not in this storage"]
    repair(examine(swept))
    assert left.exists()


def test_artifacts_in_a_folder_with_a_space_in_its_name_are_not_lost(
    tmp_path, small_file, mlflow_template, monkeypatch
):
    monkeypatch.setenv("KERAS_BACKEND", "none")
    spaced = Settings(home=tmp_path / "my project")
    spaced.root.mkdir()
    shutil.copyfile(mlflow_template, spaced.root / "mlflow.db")
    config = SweepConfig(space="fnn", trials=1, epochs=1, dataset=str(small_file), study="s")
    launch(config, spaced, trainer="fakes:run_trial")
    assert examine(spaced) == []
    moved = Settings(home=tmp_path / "another place")
    shutil.move(spaced.root, moved.root)
    assert "artifacts are sought" in problems(moved)[0]
    assert repaired(moved) == []


def test_a_study_whose_data_are_gone_is_named(settings, small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "none")
    monkeypatch.setattr("mnist_lab.execution.inline.configure", lambda _: None)
    there = tmp_path / "there.npz"
    shutil.copyfile(small_file, there)
    config = SweepConfig(
        space="fnn", trials=1, epochs=1, dataset=str(there), study="s", executor="inline"
    )
    launch(config, settings, trainer="fakes:run_trial")
    assert examine(settings) == []
    there.unlink()
    (finding,) = examine(settings)
    assert (finding.subject, finding.problem) == ("study s", f"its data {there} are gone")
    assert "mnist-lab confirm s --dataset PATH" in finding.advice
