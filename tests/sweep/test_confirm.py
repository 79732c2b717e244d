"""Confirming: replicas as a study beside the study, and what they say."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient

from mnist_lab.config import SweepConfig
from mnist_lab.data import sealed
from mnist_lab.doctor import examine
from mnist_lab.errors import MnistLabError, ServiceError, UsageError
from mnist_lab.publish import sync
from mnist_lab.report import list_studies
from mnist_lab.study import Design, StopReason, is_confirmed, open_study, read_confirmation
from mnist_lab.study.confirmation import rank_replicas
from mnist_lab.sweep import confirm, launch

TRAINER = "fakes:run_seeded_trial"


@pytest.fixture
def searched(settings, small_file, monkeypatch):
    """A real study of six fake trainings, in MLflow."""
    monkeypatch.setenv("KERAS_BACKEND", "none")  # the fake trainer needs no TensorFlow
    config = SweepConfig(
        space="fnn", trials=6, epochs=2, executor="inline", dataset=str(small_file), study="s",
        pruner="none", sampler="random",
    )  # fmt: skip
    launch(config, settings, trainer=TRAINER)
    return open_study(settings, "s")


def run(settings, *, top=2, seeds=3, name="s", **options):
    given = {"workers": 1, "trainer": TRAINER, **options}
    return confirm(settings, name, Design(top=top, seeds=seeds), **given)


def test_the_best_trials_are_trained_again_with_the_same_fresh_seeds(searched, settings):
    best = [trial.number for trial in searched.ranked()[:2]]
    _, confirmation = run(settings)
    replicas = open_study(settings, "s+confirm").trials()
    seeds = {of: [t.seed for t in replicas if t.replica_of == of] for of in best}
    assert len(replicas) == 6
    assert seeds[best[0]] == seeds[best[1]]
    used = {trial.seed for trial in searched.trials()}
    assert len(set(seeds[best[0]])) == 3
    assert not used & set(seeds[best[0]])
    for replica in replicas:
        assert replica.params == searched.trial(replica.replica_of).params
    assert {row.trial for row in confirmation.rows} == set(best)


def test_means_and_optimism_are_those_of_the_replicas(searched, settings):
    _, confirmation = run(settings)
    replicas = open_study(settings, "s+confirm").trials()
    row = confirmation.choice
    values = [t.value for t in replicas if t.replica_of == row.trial]
    assert row.mean == pytest.approx(np.mean(values))
    assert row.low < row.mean < row.high
    best = searched.ranked()[0]
    again = [t.value for t in replicas if t.replica_of == best.number]
    assert confirmation.optimism == pytest.approx(best.value - np.mean(again))


@pytest.mark.slow
def test_replicas_are_runs_under_the_page_of_their_study(searched, settings, client):
    run(settings)
    record = searched.record
    experiment = client.search_experiments(filter_string="name LIKE 'mnist-lab/%'")[0]
    runs = client.search_runs([experiment.experiment_id])
    (page,) = [r for r in runs if r.data.tags["mnist_lab.level"] == "study"]
    replicas = [r for r in runs if r.data.tags.get("mnist_lab.stage") == "confirm"]
    assert len(replicas) == 6
    assert {r.data.tags["mlflow.parentRunId"] for r in replicas} == {page.info.run_id}
    assert {r.info.status for r in replicas} == {"FINISHED"}
    best = searched.ranked()[0].number
    assert f"confirm-{best:04d}.0" in {r.info.run_name for r in replicas}
    assert page.data.tags["mnist_lab.study_id"] == record.id
    assert page.info.status == "FINISHED"
    assert "Confirmed with 3 fresh seeds" in page.data.tags["mlflow.note.content"]
    assert page.data.metrics["confirmed_val_accuracy"] > 0


@pytest.mark.slow
def test_a_confirmation_that_was_done_is_not_done_again(searched, settings):
    assert not is_confirmed(searched, Design(top=2, seeds=3))
    run(settings)
    assert is_confirmed(searched, Design(top=2, seeds=3))
    assert not is_confirmed(searched, Design(top=3, seeds=3))
    before = open_study(settings, "s+confirm").trials()
    run(settings)
    assert open_study(settings, "s+confirm").trials() == before


@pytest.mark.slow
def test_more_seeds_are_added_to_those_there_are(searched, settings):
    run(settings, seeds=2)
    _, confirmation = run(settings, seeds=4)
    assert confirmation.seeds == 4
    assert len(open_study(settings, "s+confirm").trials()) == 8


@pytest.mark.slow
def test_a_replica_that_crashed_is_trained_by_the_next_confirm(searched, settings, monkeypatch):
    monkeypatch.setenv("FAULTS", '[{"trial": 1, "what": "kill", "times": 2}]')  # and its retry
    _, confirmation = run(settings, trainer="fakes:run_trial")
    assert (len(confirmation.rows), confirmation.failed) == (1, 1)
    _, confirmation = run(settings, trainer="fakes:run_trial")
    assert (len(confirmation.rows), confirmation.failed) == (2, 0)
    failed = [t for t in open_study(settings, "s+confirm").trials() if t.state.name == "FAIL"]
    assert len(failed) == 1


@pytest.mark.slow
def test_the_newer_confirmation_is_the_one_that_mlflow_shows(searched, settings, client):
    def shown():
        experiment = client.search_experiments(filter_string="name LIKE 'mnist-lab/%'")[0]
        (page,) = client.search_runs([experiment.experiment_id], "tags.`mnist_lab.level` = 'study'")
        return page.data.metrics["confirmed_val_accuracy"]

    means = []
    for seeds in (2, 3, 4, 5):
        _, confirmation = run(settings, top=1, seeds=seeds)
        means.append(confirmation.choice.mean)
        assert shown() == pytest.approx(means[-1])
    assert means != sorted(means)  # MLflow would show the highest of those with one time


@pytest.mark.slow
def test_the_confirmation_of_a_study_that_is_gone_is_in_nobodys_way(searched, settings):
    run(settings)
    optuna.delete_study(study_name="s", storage=settings.storage)
    assert list_studies(settings) == []
    (row,) = sync(settings)
    assert row.note == "the study that it confirms is gone"
    assert [each for each in examine(settings) if each.subject == "storage"] == []


@pytest.mark.slow
def test_seeds_that_are_added_to_some_trials_hide_nothing_of_the_others(searched, settings):
    run(settings, top=3, seeds=3)
    run(settings, top=1, seeds=5)
    assert len(read_confirmation(searched, Design(top=3, seeds=3)).rows) == 3
    assert len(read_confirmation(searched, Design(top=1, seeds=5)).rows) == 1
    widest = read_confirmation(searched)
    assert (len(widest.rows), widest.seeds) == (3, 3)


@pytest.mark.slow
def test_an_extension_that_was_cut_off_leaves_what_was_there(searched, settings, monkeypatch):
    _, before = run(settings)
    monkeypatch.setenv(
        "FAULTS", '[{"trial": 7, "point": "end", "epoch": 2, "what": "fill the disk"}]'
    )
    assert run(settings, seeds=4)[0].stopped.reason is StopReason.DISK
    assert read_confirmation(searched, Design(top=2, seeds=3)) == before
    assert read_confirmation(searched) == before
    assert not is_confirmed(searched, Design(top=2, seeds=4))


@pytest.mark.slow
def test_a_trial_with_a_failed_replica_is_not_ranked(searched, settings, monkeypatch):
    monkeypatch.setenv(
        "FAULTS", '[{"trial": 2, "point": "end", "epoch": 2, "what": "kill", "times": 9}]'
    )
    _, confirmation = run(settings)
    assert (confirmation.failed, len(confirmation.rows), confirmation.seeds) == (1, 1, 3)


@pytest.mark.slow
def test_the_model_of_every_configuration_is_kept_when_the_search_goes_on(
    searched, settings, small_file
):
    run(settings, top=2, seeds=2)
    config = SweepConfig(
        space="fnn", trials=12, epochs=2, workers=1, dataset=str(small_file), study="s",
        pruner="none", sampler="random",
    )  # fmt: skip
    launch(config, settings, trainer=TRAINER)
    run(settings, top=2, seeds=3)
    replicas = open_study(settings, "s+confirm")
    tracked = replicas.tracked()
    client = MlflowClient(settings.tracking_uri)
    logged = {
        trial.replica_of
        for trial in replicas.trials()
        if "mnist_lab.model" in client.get_run(tracked[trial.number].run).data.tags
    }
    assert logged == {trial.replica_of for trial in replicas.trials()}


@pytest.mark.slow
def test_a_confirmation_is_not_confirmed(searched, settings):
    run(settings)
    with pytest.raises(UsageError, match="is the confirmation of 's' already"):
        run(settings, name="s+confirm")


def test_a_confirmation_that_was_cut_off_goes_on(searched, settings, monkeypatch):
    faults = '[{"trial": 3, "point": "end", "epoch": 2, "what": "fill the disk"}]'
    monkeypatch.setenv("FAULTS", faults)
    result, _ = run(settings)
    assert result.stopped.reason is StopReason.DISK
    assert read_confirmation(searched, Design(top=2, seeds=3)) is None
    result, confirmation = run(settings)
    assert (result.stopped, result.finished, len(confirmation.rows)) == (None, 6, 2)


@pytest.mark.slow
def test_sync_and_the_page_agree_after_a_confirmation(searched, settings):
    run(settings)
    rows = {row.study: row for row in sync(settings)}
    assert {name: row.written for name, row in rows.items()} == {"s": 0, "s+confirm": 0}


@pytest.mark.slow
def test_replicas_that_mlflow_missed_are_written_by_sync(searched, settings):
    def away(*_):
        raise ServiceError("nobody there")

    run(settings, make_tracker=away)
    rows = {row.study: row for row in sync(settings)}
    assert (rows["s+confirm"].written, rows["s+confirm"].failed) == (6, False)


@pytest.mark.slow
def test_a_confirmation_is_not_listed_as_a_study(searched, settings):
    run(settings)
    assert [row.study for row in list_studies(settings)] == ["s"]


def test_confirming_never_opens_the_sealed_images(searched, settings, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the sealed images were opened")

    monkeypatch.setattr(sealed, "open_test_split", refuse)
    assert run(settings)[1] is not None


@pytest.mark.slow
def test_each_configuration_leaves_the_model_of_its_best_replica(searched, settings, client):
    _, confirmation = run(settings)
    tracked = open_study(settings, "s+confirm").tracked()
    for row in confirmation.rows:
        assert "mnist_lab.model" in client.get_run(tracked[row.best].run).data.tags


@pytest.mark.parametrize("options", [{"seeds": 1}, {"top": 0}])
def test_too_little_to_compare_is_refused(options):
    with pytest.raises(UsageError, match="At least 1 trial and 2 seeds"):
        Design(**options)


@pytest.mark.slow
def test_a_study_that_was_never_confirmed_has_no_confirmation(searched):
    assert read_confirmation(searched) is None


def test_a_study_without_a_complete_trial_cannot_be_confirmed(settings, small_file, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "none")
    config = SweepConfig(
        space="fnn", trials=1, epochs=1, workers=1, dataset=str(small_file), study="s",
        max_failures=1,
    )  # fmt: skip
    launch(config, settings, trainer="fakes:run_failing_trial")
    with pytest.raises(MnistLabError, match="no complete trial"):
        run(settings)


def test_the_interval_of_one_configuration_is_students():
    ranking = rank_replicas(np.array([[0.98, 0.99, 0.985]]))
    # t(0.975, 2) = 4.303, s = 0.005, n = 3
    assert ranking.margin == pytest.approx(4.303 * 0.005 / np.sqrt(3), rel=1e-3)


def test_what_seeds_have_in_common_is_noise_of_a_mean_and_not_of_a_difference():
    ranking = rank_replicas(np.array([[0.97, 0.98, 0.99], [0.96, 0.97, 0.98]]))
    assert ranking.difference == pytest.approx(0, abs=1e-9)
    # t(0.975, 4) = 2.776, pooled s = 0.01, n = 3
    assert ranking.margin == pytest.approx(2.776 * 0.01 / np.sqrt(3), rel=1e-3)


def test_the_interval_of_a_mean_has_the_true_one_as_often_as_said():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        drawn = 0.99 + 0.001 * rng.standard_normal((4, 3)) + 0.0005 * rng.standard_normal((1, 3))
        ranking = rank_replicas(drawn)
        inside += list(np.abs(ranking.means - 0.99) < ranking.margin)
    assert 0.92 < np.mean(inside) < 0.97


def test_equal_configurations_are_called_different_about_as_often_as_said():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(1000):
        drawn = 0.99 + 0.001 * rng.standard_normal((5, 3)) + 0.001 * rng.standard_normal((1, 3))
        ranking = rank_replicas(drawn)
        wrong += np.ptp(ranking.means) > ranking.difference
    assert 0.03 < wrong / 1000 < 0.07
