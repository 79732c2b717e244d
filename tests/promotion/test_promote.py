"""Promotion, with a real registry and real models of few images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from filelock import FileLock
from mlflow.exceptions import MlflowException
from optuna.trial import TrialState

from mnist_lab import promotion as promotions
from mnist_lab.data import part_split
from mnist_lab.data.sealed import find_test_split
from mnist_lab.errors import BusyError, DataError, MnistLabError, UnknownNameError, UsageError
from mnist_lab.evaluation.figures import draw_predictions
from mnist_lab.models.versions import (
    find_trial_model,
    find_version,
    list_versions,
    verify_version,
)
from mnist_lab.promotion.aliases import move, read_history
from mnist_lab.promotion.challenge import read_challenges
from mnist_lab.promotion.contender import Contender
from mnist_lab.promotion.decision import read_decision
from mnist_lab.promotion.evidence import level_of
from mnist_lab.promotion.gate import Costs
from mnist_lab.promotion.openings import count_openings_for
from mnist_lab.study import PROMOTE_PARTS, Design, Replica, open_study

from .conftest import Killed

NAME = "tiny-fnn"
# Nothing can be better by so much.
STRICT = promotions.GatePolicy(
    minimum_gain=1.0, maximum_recall_loss=1.0, maximum_calibration_error=1.0, maximum_latency=1e6
)


def challenges(client):
    (digest,) = {
        key.split(".")[2]
        for key in client.get_registered_model(NAME).tags
        if key.startswith("mnist_lab.challenge.")
    }
    return read_challenges(client, NAME, digest)


def aliases(client):
    return client.get_registered_model(NAME).aliases


def model_path(client, run):
    location = client.get_logged_model(find_trial_model(client, run).model).artifact_location
    return Path(location.removeprefix("file://")) / "data" / "model.keras"


def test_the_first_model_becomes_the_champion(make_study, promote, client):
    make_study("a")
    promotion = promote("a")
    assert (promotion.name, promotion.version, promotion.promoted) == (NAME, 1, True)
    assert promotion.decision.champion is None
    assert aliases(client) == {"champion": 1}


def test_a_first_model_that_is_too_weak_does_not(make_study, promote, client):
    make_study("a", "none")
    promotion = promote("a", policy=promotions.GatePolicy(maximum_latency=1e6))
    assert (promotion.promoted, promotion.decision.judgement.verdict) == (False, "reject")
    assert aliases(client) == {"challenger": 1}


def test_a_better_model_takes_over(make_study, promote, client):
    make_study("a", "none")
    make_study("b", "good")
    promote("a")
    promotion = promote("b")
    judgement = promotion.decision.judgement
    assert (promotion.version, promotion.decision.champion) == (2, 1)
    assert judgement.comparison.trainings == (11, 11)
    assert (judgement.comparison.public.images, judgement.comparison.sealed.images) == (360, 120)
    assert judgement.comparison.p_value < judgement.test.level == pytest.approx(0.0304, abs=1e-4)
    assert aliases(client) == {"champion": 2, "previous": 1}


def test_a_worse_model_is_turned_away_unopened_though_its_validation_is_higher(
    make_study, promote, client, stage
):
    make_study("a", "good", 0.9)
    make_study("b", "none", 0.99)
    promote("a")
    stage.trained.clear()
    promotion = promote("b")
    judgement = promotion.decision.judgement
    assert (promotion.promoted, judgement.verdict, judgement.rounds) == (False, "tie", 1)
    assert judgement.public.gain < 0
    assert (promotion.decision.accuracy, promotion.decision.openings) == (None, 0)
    assert stage.trained == [("b", Replica(of=0, left_out=part)) for part in (3, 4)]
    assert aliases(client) == {"champion": 1, "challenger": 2}


def test_equal_models_are_a_tie(make_study, promote, client):
    make_study("a", "good")
    make_study("b", "good")
    promote("a")
    promotion = promote("b")
    assert promotion.decision.judgement.verdict == "tie"
    assert aliases(client) == {"champion": 1, "challenger": 2}


@pytest.mark.slow
def test_a_champion_without_replicas_is_trained_once_and_kept(make_study, promote, stage):
    make_study("a", "none")
    promote("a")
    for name in "bc":
        make_study(name, "some")
        promote(name)
    rounds = [replica.round for study, replica in stage.trained if study == "a"]
    assert rounds == [1, 1, 2, 2, 2, 3, 3, 3]
    assert len(stage.trained) == len(set(stage.trained))


def test_a_champion_whose_study_is_gone_is_compared_by_its_file(
    make_study, promote, client, settings
):
    make_study("a", "none")
    promote("a")
    optuna.delete_study(study_name="a", storage=settings.storage)
    make_study("b", "good")
    found = promote("b").decision.judgement.comparison
    assert (found.public, found.trainings) == (None, (5, 1))
    assert aliases(client) == {"champion": 2, "previous": 1}


@pytest.mark.slow
def test_a_model_that_is_much_smaller_need_not_be_better(
    make_study, promote, client, lenient, monkeypatch
):
    make_study("a", "good")
    make_study("b", "good")
    promote("a")
    monkeypatch.setattr(Contender, "costs", lambda self: COSTS[self.study])
    policy = replace(lenient, margin=0.9)
    decision = promote("b", policy=policy).decision
    assert decision.judgement.reason.startswith("smaller or faster")
    assert client.get_model_version(NAME, "2").tags["mnist_lab.best_champion"] == "1"
    make_study("c", "some")
    decision = promote("c", policy=policy).decision
    assert (decision.champion, decision.opponent) == (2, 1)  # not the smaller one
    assert decision.judgement.comparison.gain < 0
    assert decision.promoted


COSTS = {
    name: Costs(parameters=parameters, file_size=1, latency=1.0)
    for name, parameters in (("a", 1000), ("b", 500), ("c", 400))
}


@pytest.mark.slow
def test_force_promotes_a_worse_model_and_writes_it_down(make_study, promote, client):
    make_study("a", "good")
    make_study("b", "none")
    promote("a")
    promotion = promote("b", force=True)
    assert (promotion.promoted, promotion.decision.forced) == (True, True)
    assert aliases(client) == {"champion": 2, "previous": 1}
    version = client.get_model_version(NAME, "2")
    assert read_decision(version).forced
    assert read_history(client, NAME)[-1].why == "promote: forced"


@pytest.mark.slow
def test_the_decision_stands_on_the_version_and_with_its_run(make_study, promote, client, tmp_path):
    make_study("a", "none")
    run = make_study("b", "good")
    promote("a")
    promotion = promote("b")
    version = client.get_model_version(NAME, "2")
    assert read_decision(version) == promotion.decision
    assert version.tags["mnist_lab.verdict"] == "promote"
    folder = Path(client.download_artifacts(run, "decision", str(tmp_path)))
    assert json.loads((folder / "decision.json").read_text())["judgement"]["verdict"] == "promote"
    said = (folder / "decision.md").read_text()
    assert "95 % interval" in said
    assert "| yes |" in said


def test_a_decision_that_was_made_stands_and_trains_and_opens_nothing_again(
    make_study, promote, client, stage
):
    make_study("a", "none")
    make_study("b", "some")
    promote("a")
    promote("b", policy=STRICT)
    stage.trained.clear()
    first = promote("b", policy=STRICT).decision
    assert promote("b", policy=STRICT).decision == first
    assert (stage.trained, first.openings) == ([], 2)
    assert len(challenges(client)) == 1


def test_another_policy_is_the_next_challenge_and_opens_nothing_again(
    make_study, promote, client, lenient
):
    make_study("a", "none")
    make_study("b", "some")
    promote("a")
    first = promote("b", policy=replace(STRICT, significance=0.01)).decision
    again = promote("b", policy=lenient).decision
    assert (first.judgement.test.challenge, again.judgement.test.challenge) == (1, 2)
    assert again.judgement.test.significance == 0.01  # tightened before, not loosened again
    assert (first.openings, again.openings) == (2, 2)
    assert first.judgement.comparison.gain == again.judgement.comparison.gain
    assert [each.verdict for each in challenges(client)] == ["tie", again.judgement.verdict]


def test_challenges_of_earlier_versions_are_counted(make_study, promote, client, record):
    make_study("a", "none")
    make_study("b", "good")
    promote("a")
    former = {"champion": 1, "judgement": {"verdict": "promote", "comparison": {"gain": 0.01}}}
    for _ in range(2):
        client.create_model_version(NAME, "somewhere", tags={
            "mnist_lab.dataset_digest": record.dataset_digest,
            "mnist_lab.decision": json.dumps(former),
        })  # fmt: skip
    test = promote("b").decision.judgement.test
    assert test.challenge == 3
    assert test.level == pytest.approx(3 * level_of(0.05, 3, 0))


def test_openings_of_earlier_versions_are_counted(make_study, promote, client):
    run = make_study("a")
    client.set_tag(run, "mnist_lab.test_openings", "7")
    assert promote("a").decision.openings == 8


def test_openings_of_earlier_versions_are_shown_before_the_next(make_study, client):
    model = find_trial_model(client, make_study("a")).model
    client.create_registered_model(NAME, tags={"mnist_lab.test_openings": "2"})
    tags = {"mnist_lab.sealed_digest": "d"}
    client.create_model_version(NAME, source=f"models:/{model}", tags=tags)
    assert count_openings_for(client, NAME) == 2


def test_promoting_the_champion_again_does_nothing(make_study, promote, client):
    make_study("a")
    promote("a")
    again = promote("a", force=True)
    assert (again.already, again.promoted, again.decision) == (True, False, None)
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1
    assert count_openings_for(client, NAME) == 1


def test_a_study_that_is_not_confirmed_is_not_promoted(make_study, promote, client):
    make_study("a", confirmed=False)
    with pytest.raises(MnistLabError, match="Type: mnist-lab confirm a"):
        promote("a")
    assert not client.search_registered_models()


def test_a_choice_without_a_logged_model_says_so(make_study, promote):
    make_study("a", model=False)
    with pytest.raises(UnknownNameError, match="logged model"):
        promote("a")


def test_a_version_says_where_it_came_from(make_study, promote, client, small_dataset):
    run = make_study("a")
    promote("a")
    version = client.get_model_version(NAME, "1")
    assert version.run_id == run
    tags = {key.removeprefix("mnist_lab."): value for key, value in version.tags.items()}
    known = {"study": "a", "trial": "0", "replica": "2", "run": run, "val_accuracy": "0.9"}
    assert known.items() <= tags.items()
    assert tags["dataset_digest"] == small_dataset.digest
    assert len(tags["sha256"]) == len(tags["space_digest"]) == 64


def test_the_sealed_images_are_opened_once_and_the_opening_is_counted(
    make_study, promote, client, small_file, plain_mlflow, monkeypatch
):
    monkeypatch.setattr("mnist_lab.promotion.sealed_test.draw_predictions", draw_predictions)
    run = make_study("a")
    decision = promote("a").decision
    test = find_test_split(str(small_file)).open()
    model = plain_mlflow.keras.load_model(f"models:/{NAME}@champion")
    predicted = model.predict(test.images, verbose=0).argmax(axis=1)
    assert decision.accuracy == np.mean(predicted == test.labels)
    data = client.get_run(run).data
    assert data.metrics["test_accuracy"] == pytest.approx(decision.accuracy)
    assert decision.openings == 1
    names = {file.path for file in client.list_artifacts(run, "test")}
    assert names == {
        "test/figures", "test/confusion_matrix.json", "test/classification_report.json",
        "test/roc.json",
    }  # fmt: skip


@pytest.mark.slow
def test_every_later_opening_is_counted(make_study, promote, client, settings, record):
    run = make_study("a")
    promote("a")
    promotions.evaluate_model(client, find_trial_model(client, run), record, settings)
    assert count_openings_for(client, NAME) == 2


def test_other_test_images_have_a_count_of_their_own(make_study, promote, client, settings, record):
    run = make_study("a")
    model = find_trial_model(client, run)
    first, second = (
        promotions.evaluate_on(client, model, "mnist", record, settings) for _ in range(2)
    )
    assert (first.openings, second.openings) == (1, 2)
    assert first.evaluation.samples == 10_000
    assert promote("a").decision.openings == 1


def test_images_opened_for_many_models_are_counted_together(make_study, client, settings, record):
    runs = [make_study(name) for name in "ab"]
    found = [
        promotions.evaluate_model(client, find_trial_model(client, run), record, settings)
        for run in runs
    ]
    assert [each.openings for each in found] == [1, 2]


@pytest.mark.slow
def test_the_same_images_under_another_name_are_the_same_images(
    make_study, promote, client, settings, small_file, tmp_path, record
):
    run = make_study("a")
    other = tmp_path / "other.npz"
    other.write_bytes(small_file.read_bytes())
    before = promotions.evaluate_on(
        client, find_trial_model(client, run), str(other), record, settings
    )
    assert before.openings == 1
    assert promote("a").decision.openings == 2
    assert count_openings_for(client, NAME) == 2  # that before it was registered, too


def test_data_that_changed_since_the_sweep_is_never_opened(make_study, client, settings, record):
    run = make_study("a")
    with pytest.raises(DataError, match="is not the data that the study was made with"):
        promotions.evaluate_model(
            client,
            find_trial_model(client, run),
            replace(record, dataset_digest="0" * 64),
            settings,
        )
    assert not any("opening" in key for key in client.get_experiment("0").tags)


@pytest.mark.slow
def test_a_champion_of_other_images_is_no_measure(make_study, promote, client):
    make_study("a", "none")
    make_study("b")
    promote("a")
    client.set_model_version_tag(NAME, "1", "mnist_lab.dataset_digest", "0" * 64)
    with pytest.raises(MnistLabError, match="validated on other images"):
        promote("b")


def test_a_champion_of_other_images_is_refused_before_a_confirmation(
    make_study, promote, client, settings
):
    make_study("a", "none")
    make_study("b", confirmed=False)
    promote("a")
    ask = partial(
        promotions.require_promotable, client, "b", settings, design=Design(top=1), policy=STRICT
    )
    ask()
    client.set_model_version_tag(NAME, "1", "mnist_lab.dataset_digest", "0" * 64)
    with pytest.raises(MnistLabError, match="validated on other images"):
        ask()


@pytest.mark.parametrize(
    "damage", ["flip", *(pytest.param(each, marks=pytest.mark.slow) for each in ("cut", "gone"))]
)
def test_a_damaged_challenger_moves_no_alias(make_study, promote, client, damage):
    make_study("a", "none")
    promote("a")
    path = model_path(client, make_study("b"))
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content if damage == "flip" else content[:-500])
    if damage == "gone":
        path.unlink()
    with pytest.raises(DataError, match=r"is refused|cannot be fetched"):
        promote("b")
    assert aliases(client) == {"champion": 1}
    assert count_openings_for(client, NAME) == 1


@pytest.mark.slow
def test_a_damaged_champion_opens_nothing(make_study, promote, client):
    run = make_study("a", "none")
    make_study("b")
    promote("a")
    path = model_path(client, run)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="is refused"):
        promote("b")
    assert aliases(client) == {"champion": 1}
    assert count_openings_for(client, NAME) == 1


def test_a_second_promotion_at_the_same_time_is_refused(make_study, promote, settings):
    make_study("a")
    with FileLock(settings.work / f"model-{NAME}.lock"), pytest.raises(BusyError, match="just now"):
        promote("a")


# Its writes, and what follows the last; those between decision and aliases always.
POINTS = [
    pytest.param(point, marks=() if point in (30, 36) else pytest.mark.slow) for point in range(38)
]


@pytest.mark.only_by_default("36")
@pytest.mark.parametrize("point", POINTS)
def test_a_promotion_that_was_killed_anywhere_converges_when_it_is_typed_again(
    make_study, promote, stage, client, kill_after, point
):
    make_study("a", "none")
    make_study("b", "good")
    promote("a")
    stage.train_all("a", "b")
    with kill_after(point):
        promote("b")
    held = aliases(client)
    assert held["champion"] in (1, 2)
    for alias, version in held.items():
        assert (alias, int(version)) in {("champion", 1), ("champion", 2),
                                         ("challenger", 2), ("previous", 1)}  # fmt: skip
    promote("b")
    assert aliases(client) == {"champion": 2, "previous": 1}
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2
    assert read_history(client, NAME)[-1].done
    (challenge,) = challenges(client)
    assert (challenge.number, challenge.verdict) == (1, "promote")
    assert read_decision(client.get_model_version(NAME, "2")).openings == 2


# A promotion in a process of its own that is killed when it gives the alias ``champion``.
DYING = """
import os, signal, sys
from mlflow import MlflowClient
from mnist_lab import promotion as promotions
from mnist_lab.settings import Settings
from mnist_lab.study import Design
from mnist_lab.tracking.store import open_client

real = MlflowClient.set_registered_model_alias

def die(self, name, alias, version):
    if alias == "champion":
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, name, alias, version)

MlflowClient.set_registered_model_alias = die
policy = promotions.GatePolicy(minimum_accuracy=0, maximum_recall_loss=1, maximum_latency=1e6,
                             maximum_calibration_error=1)
settings = Settings()
promotions.promote(open_client(settings), sys.argv[1], settings, design=Design(top=1), train=None,
                 policy=policy)
"""


@pytest.mark.slow
def test_a_promotion_whose_process_was_killed_is_finished_by_the_next(
    make_study, promote, stage, client, settings
):
    make_study("a", "none")
    make_study("b", "good")
    promote("a")
    stage.train_all("a", "b")
    environment = {**os.environ, "MNIST_LAB_HOME": str(settings.root)}
    dead = subprocess.run([sys.executable, "-c", DYING, "b"], env=environment, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert aliases(client) == {"champion": 1}  # challenger was taken away, champion not yet given
    assert not read_history(client, NAME)[-1].done
    assert promote("b").already
    assert aliases(client) == {"champion": 2, "previous": 1}


def test_rollback_makes_the_previous_champion_champion_again(make_study, promote, client, settings):
    make_study("a", "none")
    make_study("b", "good")
    promote("a")
    promote("b")
    assert promotions.rollback(client, settings, NAME) == (1, 2)
    assert aliases(client) == {"champion": 1, "previous": 2}
    assert promotions.rollback(client, settings, NAME) == (2, 1)
    whys = [event.why for event in read_history(client, NAME)]
    assert whys[-2:] == ["rollback from version 2", "rollback from version 1"]


@pytest.mark.slow
def test_a_rollback_that_was_killed_is_finished_by_the_next_command(
    make_study, promote, client, settings, monkeypatch
):
    make_study("a", "none")
    make_study("b", "good")
    promote("a")
    promote("b")

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(client, "set_registered_model_alias", die)
        with pytest.raises(Killed):
            promotions.rollback(client, settings, NAME)
    assert promotions.rollback(client, settings, NAME) == (1, 2)  # finishes it, and no more
    assert aliases(client) == {"champion": 1, "previous": 2}
    assert len(read_history(client, NAME)) == 5


@pytest.mark.slow
def test_rolling_back_to_a_damaged_file_is_refused(make_study, promote, client, settings):
    run = make_study("a", "none")
    make_study("b", "good")
    promote("a")
    promote("b")
    path = model_path(client, run)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="refused"):
        promotions.rollback(client, settings, NAME)
    assert aliases(client) == {"champion": 2, "previous": 1}


@pytest.mark.only_by_default("tiny-fnn")
@pytest.mark.parametrize("name", [NAME, "../evil", "it's"])
def test_there_is_nothing_before_the_first_champion(make_study, promote, client, settings, name):
    make_study("a")
    promote("a")
    with pytest.raises(MnistLabError, match="no champion before"):
        promotions.rollback(client, settings, name)


@pytest.mark.slow
def test_aliases_that_somebody_moved_by_hand_stay_where_they_are(make_study, promote, client):
    make_study("a", "none")
    make_study("b", "good")
    promote("a")
    promote("b")
    client.set_registered_model_alias(NAME, "champion", "1")
    move(client, NAME, "a note", {"mine": 2})
    assert aliases(client) == {"champion": 1, "previous": 1, "mine": 2}


def test_a_registry_that_fails_is_not_taken_for_an_empty_one(make_study, promote, client):
    make_study("a")

    def fail(*_):
        raise MlflowException("the disk is on fire")

    client.get_model_version_by_alias = fail
    with pytest.raises(MlflowException, match="on fire"):
        promote("a")


@pytest.mark.slow
def test_versions_are_listed_newest_first_with_their_aliases(make_study, promote, client):
    for study, skill, value in (("a", "none", 0.8), ("b", "good", 0.9)):
        make_study(study, skill, value)
        promote(study)
    rows = list_versions(client)
    assert [(row.version, row.aliases, row.study) for row in rows] == [
        (2, ("champion",), "b"), (1, ("previous",), "a"),
    ]  # fmt: skip
    assert [row.val_accuracy for row in rows] == pytest.approx([0.9, 0.8])
    assert [row.verdict for row in rows] == ["promote", "promote"]
    assert list_versions(client, "other") == []


@pytest.mark.slow
@pytest.mark.parametrize("reference", [f"{NAME}@champion", f"{NAME}/1"])
def test_a_version_is_found_by_alias_and_by_number(make_study, promote, client, reference):
    make_study("a")
    promote("a")
    assert find_version(client, reference).version == 1


@pytest.mark.slow
@pytest.mark.parametrize("reference", [f"{NAME}@champ", f"{NAME}/9"])
def test_an_unknown_version_is_refused_with_the_known_ones(make_study, promote, client, reference):
    make_study("a")
    promote("a")
    with pytest.raises(UnknownNameError, match=f"{NAME}@champion"):
        find_version(client, reference)


def test_a_bare_name_is_no_version(client):
    with pytest.raises(UsageError, match="MODEL@ALIAS"):
        find_version(client, NAME)


def test_the_card_has_every_fact_and_is_drawn_again_to_the_byte(
    make_study, promote, client, tmp_path, small_dataset
):
    make_study("a", "none")
    run = make_study("b", "good")
    promote("a")
    promote("b")
    version = client.get_model_version(NAME, "2")
    page = promotions.read_card(client, version)
    kept = Path(client.download_artifacts(run, "card/card.md", str(tmp_path))).read_text()
    assert page == kept == version.description
    for said in (
        "# tiny-fnn, version 2", "Gate: **promote**", version.tags["mnist_lab.sha256"],
        "| class | precision | recall | images |", "taken for", "95 % interval", "chosen",
        'load_model("models:/tiny-fnn/2")', "core-seconds", "kept: ",
    ):  # fmt: skip
        assert said in page
    assert len(page) < 5000


def test_a_version_that_no_gate_has_seen_has_no_card(make_study, client):
    run = make_study("a")
    model = find_trial_model(client, run).model
    client.create_registered_model("other")
    version = client.create_model_version("other", f"models:/{model}", run_id=run)
    with pytest.raises(UnknownNameError, match="model card"):
        promotions.read_card(client, version)


def test_a_version_that_mnist_lab_did_not_register_is_not_loaded(
    make_study, promote, client, settings
):
    make_study("a")
    promote("a")
    client.delete_model_version_tag(NAME, "1", "mnist_lab.sha256")
    with pytest.raises(DataError, match="was not registered by mnist-lab"):
        verify_version(client, client.get_model_version(NAME, "1"), settings)


@pytest.mark.slow
def test_a_decision_of_another_version_is_made_again(make_study, promote, client):
    make_study("a", "none")
    make_study("b", "good")
    promote("a")
    promote("b", policy=STRICT)
    client.set_model_version_tag(NAME, "2", "mnist_lab.decision", '{"verdict": "unheard of"}')
    assert promote("b", policy=STRICT).decision.openings == 2


def test_images_that_helped_to_choose_count_for_nothing(make_study, stage, settings, small_dataset):
    make_study("a", "some")
    stage.train_all("a")
    contender = Contender(search=open_study(settings, "a"), trial=0)
    labels = {part: part_split(small_dataset, part).labels for part in PROMOTE_PARTS}
    arm = contender.arm(3, labels)
    assert {part: rows.shape for part, rows in arm.parts.items()} == dict.fromkeys(
        (2, 3, 4), (3, 120)
    )
    assert len(contender.groups(3)) == 11  # those of confirm predict the sealed images only


def test_a_promotion_that_was_cut_off_before_mlflow_had_the_models_logs_them(
    make_study, promote, stage, client
):
    run = make_study("a")
    client.delete_tag(run, "mnist_lab.model")
    asked = []

    def train(name, replicas, source):
        asked.append(list(replicas))
        if not replicas:  # what a sweep with nothing to train does
            stage.log_missing(name)
            return
        stage.train(name, replicas, source)

    assert promote("a", train=train).promoted
    assert asked[-1] == []


def test_a_challenge_that_ended_unopened_counts(make_study, promote, client):
    make_study("a", "some")
    make_study("b", "none")
    make_study("c", "good")
    promote("a")
    assert promote("b").decision.judgement.rounds == 1
    test = promote("c").decision.judgement.test
    assert (test.challenge, test.level) == (2, pytest.approx(level_of(0.05, 2, 0)))


@pytest.mark.slow
def test_a_challenge_that_was_forced_counts_and_is_no_promotion_by_the_test(
    make_study, promote, client
):
    make_study("a", "good")
    make_study("b", "none")
    make_study("c", "good")
    promote("a")
    promote("b", force=True)
    (first,) = challenges(client)
    assert first.verdict != "promote"
    assert "promoted by force" in promotions.read_card(client, client.get_model_version(NAME, "2"))
    test = promote("c").decision.judgement.test
    assert (test.challenge, test.level) == (2, pytest.approx(level_of(0.05, 2, 0)))


@pytest.mark.parametrize(("reason", "again"), [("crashed", True), ("diverged", False)])
def test_a_replica_is_trained_again_if_it_failed_for_a_transient_reason(
    make_study, settings, reason, again
):
    make_study("a")
    replica = Replica(of=0, left_out=3)
    ledger = open_study(settings, "a+confirm")
    ledger.queue_replica(
        open_study(settings, "a").trial(0).params, of=0, seed=1, left_out=3, round_=1
    )
    number = ledger.study.ask().number
    ledger.write(number).start(seed=1, attempt=1)
    ledger.write(number).failure(reason, "as this test goes")
    ledger.finish(number, TrialState.FAIL)
    missing = Contender(search=open_study(settings, "a"), trial=0).missing(1)
    assert (replica in missing) == again


def test_the_champion_in_use_is_compared_where_the_best_one_was_deleted(
    make_study, promote, client
):
    make_study("a", "none")
    make_study("b", "good")
    promote("a")
    client.set_model_version_tag(NAME, "1", "mnist_lab.best_champion", "9")
    assert promote("b").decision.opponent == 1


def test_a_file_that_is_worse_than_its_siblings_is_passed_over(
    make_study, promote, client, monkeypatch
):
    run = make_study("a")
    monkeypatch.setattr("mnist_lab.promotion.examine.pick_shipped", lambda wrong, order: order[1])
    decision = promote("a").decision
    (version,) = client.search_model_versions(f"name = '{NAME}'")
    assert version.run_id != run
    assert int(version.version) == decision.version
    assert decision.openings == 1
    assert promote("a").already
