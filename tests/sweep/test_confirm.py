"""Confirming: replicas as a study beside the study, and what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from fakes import finished
from mnist_lab.config import SweepConfig
from mnist_lab.data import sealed
from mnist_lab.doctor import examine
from mnist_lab.errors import MnistLabError, ServiceError, UsageError
from mnist_lab.publish import sync
from mnist_lab.report import list_studies
from mnist_lab.study import (
    Design,
    StopReason,
    connect,
    create_study,
    open_study,
    read_confirmation,
)
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


def run(settings, *, top=3, name="s", **options):
    given = {"workers": 1, "trainer": TRAINER, **options}
    return confirm(settings, name, Design(top=top), **given)


def replicas(settings):
    return open_study(settings, "s+confirm").trials()


def test_the_best_are_trained_without_a_part_and_the_better_half_without_another(
    searched, settings
):
    best = searched.ranked()[:3]
    _, confirmation = run(settings)
    first, second = (
        {trial.replica_of: trial for trial in replicas(settings) if trial.left_out == part}
        for part in (0, 1)
    )
    sums = {of: searched.trial(of).value + trial.value for of, trial in first.items()}
    assert set(first) == {trial.number for trial in best}
    assert set(second) == set(sorted(sums, key=lambda of: -sums[of])[:2])
    totals = {of: sums[of] + trial.value for of, trial in second.items()}
    assert confirmation.chosen == max(totals, key=lambda of: totals[of])
    assert confirmation.choice.total == pytest.approx(max(totals.values()))
    said = {row.trial: row.said for row in confirmation.rows}
    assert said[confirmation.chosen] == "chosen"
    assert {of for of, word in said.items() if word == "dropped"} == set(first) - set(second)


def test_all_trials_share_the_fresh_seeds_of_a_part(searched, settings):
    run(settings)
    seeds = [{t.seed for t in replicas(settings) if t.left_out == part} for part in (0, 1)]
    assert [len(each) for each in seeds] == [1, 1]
    assert not (seeds[0] | seeds[1]) & {trial.seed for trial in searched.trials()}
    for replica in replicas(settings):
        assert replica.params == searched.trial(replica.replica_of).params


def test_a_mean_is_of_the_fresh_trainings_with_the_interval_of_its_images(searched, settings):
    _, confirmation = run(settings)
    row = confirmation.choice
    values = [t.value for t in replicas(settings) if t.replica_of == row.trial]
    assert row.mean == pytest.approx(np.mean(values))
    error = (row.mean * (1 - row.mean) / 240) ** 0.5  # two fifths of 600 images
    assert (row.low, row.high) == pytest.approx((row.mean - 1.96 * error, row.mean + 1.96 * error))
    assert confirmation.optimism is None  # measured on other images


@pytest.mark.slow
def test_replicas_are_runs_under_the_page_of_their_study(searched, settings, client):
    run(settings)
    record = searched.record
    experiment = client.search_experiments(filter_string="name LIKE 'mnist-lab/%'")[0]
    runs = client.search_runs([experiment.experiment_id])
    (page,) = [r for r in runs if r.data.tags["mnist_lab.level"] == "study"]
    found = [r for r in runs if r.data.tags.get("mnist_lab.stage") == "confirm"]
    assert len(found) == 5
    assert {r.data.tags["mlflow.parentRunId"] for r in found} == {page.info.run_id}
    assert {r.info.status for r in found} == {"FINISHED"}
    best = searched.ranked()[0].number
    assert f"confirm-{best:04d}.0" in {r.info.run_name for r in found}
    assert page.data.tags["mnist_lab.study_id"] == record.id
    assert page.info.status == "FINISHED"
    assert "Confirmed with 2 fresh trainings" in page.data.tags["mlflow.note.content"]
    assert page.data.metrics["confirmed_val_accuracy"] > 0


@pytest.mark.slow
def test_a_confirmation_that_was_done_is_not_done_again(searched, settings):
    assert len(Design(top=3).missing(searched)) == 3
    run(settings)
    assert Design(top=3).missing(searched) == []
    assert len(Design(top=4).missing(searched)) == 1
    before = replicas(settings)
    result, confirmation = run(settings)
    assert (result, replicas(settings)) == (None, before)
    assert confirmation is not None


@pytest.mark.slow
def test_more_trials_are_added_to_those_there_are(searched, settings):
    run(settings, top=2)
    _, confirmation = run(settings, top=5)
    assert len(confirmation.rows) == 5
    pairs = [(t.replica_of, t.left_out) for t in replicas(settings)]
    assert len(pairs) == len(set(pairs))
    assert len(read_confirmation(searched, Design(top=2)).rows) == 2


@pytest.mark.slow
def test_a_replica_that_crashed_is_trained_by_the_next_confirm(searched, settings, monkeypatch):
    monkeypatch.setenv("FAULTS", '[{"trial": 1, "what": "kill", "times": 2}]')  # and its retry
    _, confirmation = run(settings, top=2, trainer="fakes:run_trial")
    assert (len(confirmation.rows), confirmation.failed) == (1, 1)
    _, confirmation = run(settings, top=2, trainer="fakes:run_trial")
    assert (len(confirmation.rows), confirmation.failed) == (2, 0)
    failed = [t for t in replicas(settings) if t.state.name == "FAIL"]
    assert len(failed) == 1


@pytest.mark.slow
def test_the_newer_confirmation_is_the_one_that_mlflow_shows(searched, settings, client):
    def shown():
        experiment = client.search_experiments(filter_string="name LIKE 'mnist-lab/%'")[0]
        (page,) = client.search_runs([experiment.experiment_id], "tags.`mnist_lab.level` = 'study'")
        return page.data.metrics["confirmed_val_accuracy"]

    for top in (1, 2, 4):
        _, confirmation = run(settings, top=top)
        assert shown() == pytest.approx(confirmation.choice.mean)


@pytest.mark.slow
def test_the_confirmation_of_a_study_that_is_gone_is_in_nobodys_way(searched, settings):
    run(settings)
    optuna.delete_study(study_name="s", storage=settings.storage)
    assert list_studies(settings) == []
    (row,) = sync(settings)
    assert row.note == "the study that it confirms is gone"
    assert [each for each in examine(settings) if each.subject == "storage"] == []


@pytest.mark.slow
def test_an_extension_that_was_cut_off_leaves_what_was_there(searched, settings, monkeypatch):
    _, before = run(settings, top=2)
    monkeypatch.setenv(
        "FAULTS", '[{"trial": 4, "point": "end", "epoch": 2, "what": "fill the disk"}]'
    )
    assert run(settings, top=4)[0].stopped.reason is StopReason.DISK
    assert read_confirmation(searched, Design(top=2)) == before
    assert read_confirmation(searched, Design(top=4)) is None


@pytest.mark.slow
def test_a_trial_with_a_failed_replica_is_not_ranked(searched, settings, monkeypatch):
    monkeypatch.setenv(
        "FAULTS", '[{"trial": 0, "point": "end", "epoch": 2, "what": "kill", "times": 9}]'
    )
    _, confirmation = run(settings, top=2)
    assert (confirmation.failed, len(confirmation.rows), confirmation.seeds) == (1, 1, 2)


@pytest.mark.slow
def test_every_replica_leaves_its_model(searched, settings):
    run(settings)
    tracked = open_study(settings, "s+confirm").tracked()
    client = MlflowClient(settings.tracking_uri)
    for trial in replicas(settings):
        assert "mnist_lab.model" in client.get_run(tracked[trial.number].run).data.tags


@pytest.fixture
def formerly(searched, settings):
    """The study, confirmed by an earlier version: two trials, three seeds, no part left out."""
    record = replace(searched.record, id="c", name="s+confirm", confirms=searched.record.id)
    ledger = create_study(connect(settings), record)
    for of in [trial.number for trial in searched.ranked()[:2]]:
        for seed, value in enumerate((0.91, 0.92, 0.93)):
            ledger.study.enqueue_trial(
                searched.trial(of).params, user_attrs={"replica_of": of, "planned_seed": seed}
            )
            number = ledger.study.ask().number
            ledger.write(number).start(seed=seed, attempt=1)
            ledger.write(number).result(finished(number, 1, value + of / 1000))
            ledger.finish(number, TrialState.COMPLETE, value + of / 1000)
    return searched


def test_a_confirmation_of_an_earlier_version_stands_until_there_is_a_new_one(formerly, settings):
    former = read_confirmation(formerly, Design(top=2))
    assert (former.seeds, len(former.rows)) == (3, 2)
    assert former.chosen == max(row.trial for row in former.rows)
    assert former.optimism is not None
    best = formerly.trial(former.chosen)
    ledger = open_study(settings, "s+confirm")
    ledger.queue_replica(best.params, of=best.number, seed=1, left_out=2, round_=1)
    number = ledger.study.ask().number  # as ``promote`` trains them
    ledger.write(number).start(seed=1, attempt=1)
    ledger.write(number).result(finished(number, 1, 0.9))
    ledger.finish(number, TrialState.COMPLETE, 0.9)
    assert read_confirmation(formerly, Design(top=2)) == former
    _, confirmation = run(settings, top=2)
    assert confirmation.seeds == 2
    assert len(replicas(settings)) == 10


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
    assert read_confirmation(searched, Design(top=3)) is None
    result, confirmation = run(settings)
    assert (result.stopped, result.finished, len(confirmation.rows)) == (None, 5, 3)


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
    assert (rows["s+confirm"].written, rows["s+confirm"].failed) == (5, False)


@pytest.mark.slow
def test_a_confirmation_is_not_listed_as_a_study(searched, settings):
    run(settings)
    assert [row.study for row in list_studies(settings)] == ["s"]


def test_confirming_never_opens_the_sealed_images(searched, settings, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the sealed images were opened")

    monkeypatch.setattr(sealed.SealedSplit, "open", refuse)
    assert run(settings)[1] is not None


def test_too_little_to_compare_is_refused():
    with pytest.raises(UsageError, match="At least 1 trial"):
        Design(top=0)


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
