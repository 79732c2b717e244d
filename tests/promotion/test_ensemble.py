"""The mean of several trainings as a challenger, with a real registry and real models."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import optuna
import pytest

from mnist_lab import promotion as promotions
from mnist_lab.data import part_split
from mnist_lab.errors import DataError, MnistLabError
from mnist_lab.evaluation import unpack_classes
from mnist_lab.models import load_version
from mnist_lab.promotion.challenge import (
    Challenger,
    begin_challenge,
    finish_challenge,
    read_all_challenges,
)
from mnist_lab.promotion.contender import Contender
from mnist_lab.promotion.decision import describe_judgement, read_decision
from mnist_lab.promotion.gate import GatePolicy
from mnist_lab.promotion.openings import count_openings_for
from mnist_lab.study import PROMOTE_PARTS, Design, Replica, open_study

NAME = "tiny-fnn"
MIXED = ("some", "good", "twin")  # of the trainings of each round


def mean_of(networks, skills, images):
    found = [keras.saving.load_model(networks[each]).predict(images, verbose=0) for each in skills]
    return np.mean(found, axis=0)


def test_an_ensemble_is_registered_as_one_model_that_predicts_the_mean(
    make_study, promote, client, settings, networks, small_dataset
):
    make_study("a", MIXED)
    promotion = promote("a", members=3)
    assert (promotion.promoted, promotion.members) == (True, 3)
    _, _, network = load_version(client, f"{NAME}@champion", settings)
    images = small_dataset.validation.images
    expected = mean_of(networks, MIXED, images)
    assert network.predict(images, verbose=0) == pytest.approx(expected, abs=1e-5)


def test_its_members_left_out_the_images_that_it_is_measured_on(
    make_study, promote, settings, networks, small_dataset
):
    make_study("a", MIXED)
    promote("a", members=3)
    contender = Contender(search=open_study(settings, "a"), trial=0, members=3)
    groups = contender.groups(3)
    assert [group.left_out for group in groups] == list(PROMOTE_PARTS)
    for group in groups:
        assert {trial.left_out for trial in group.trials} == {group.left_out}
        expected = mean_of(networks, MIXED, part_split(small_dataset, group.left_out).images)
        found = unpack_classes(contender.predicted(group))
        np.testing.assert_array_equal(found, expected.argmax(axis=1))


def test_an_ensemble_meets_a_champion_of_single_trainings(make_study, promote, client):
    make_study("a", "some")
    make_study("b", MIXED)
    promote("a")
    promotion = promote("b", members=3)
    comparison = promotion.decision.judgement.comparison
    assert promotion.promoted
    assert (comparison.trainings, comparison.members) == ((3, 11), (3, 1))
    assert (comparison.public.images, comparison.sealed.images) == (360, 120)
    said = " ".join(describe_judgement(promotion.decision.judgement))
    assert "3 ensembles of 3 trainings against 11 trainings, on 360 public images" in said
    version = client.get_model_version(NAME, "2")
    assert version.tags["mnist_lab.ensemble"] == "3"
    assert f"the mean of 3 trainings with the seeds {seeds_of(client, version)}" in (
        promotions.read_card(client, version)
    )


def seeds_of(client, version):
    path = client.download_artifacts(version.run_id, "card/card.json")
    with open(path) as file:
        return ", ".join(map(str, json.load(file)["seeds"]))


def test_a_single_training_meets_a_champion_that_is_an_ensemble(make_study, promote, client):
    make_study("a", MIXED)
    make_study("b", "none")
    promote("a", members=3)
    promotion = promote("b")
    judgement = promotion.decision.judgement
    assert (judgement.verdict, judgement.rounds) == ("tie", 1)
    assert judgement.public.gain < 0
    assert client.get_registered_model(NAME).aliases == {"champion": 1, "challenger": 2}


def test_a_single_training_that_is_better_replaces_an_ensemble(make_study, promote):
    make_study("a", "none")
    make_study("b", "good")
    promote("a", members=2)
    comparison = promote("b").decision.judgement.comparison
    assert (comparison.trainings, comparison.members) == ((11, 3), (1, 2))


def test_a_trial_and_its_ensemble_are_two_challengers(make_study, promote, client, stage):
    make_study("a", ("none", "good", "good"))
    promote("a")
    promotion = promote("a", members=3)
    assert (promotion.already, promotion.version) == (False, 2)
    assert promotion.promoted
    stage.trained.clear()
    assert promote("a", members=3).already
    assert stage.trained == []
    assert [each.by.members for each in read_all_challenges(client, NAME)] == [3]


def test_an_ensemble_that_is_behind_leaves_the_sealed_images_sealed(
    make_study, promote, client, stage
):
    make_study("a", "good")
    make_study("b", "none")
    promote("a")
    stage.trained.clear()
    promotion = promote("b", members=3)
    judgement = promotion.decision.judgement
    assert (promotion.promoted, judgement.verdict, judgement.rounds) == (False, "tie", 3)
    assert (promotion.decision.accuracy, promotion.decision.openings) == (None, 0)
    rounds = {(study, replica.round) for study, replica in stage.trained}
    # The champion's third round is not trained.
    assert rounds == {("b", 1), ("b", 2), ("b", 3), ("a", 2)}
    assert client.get_model_version(NAME, "2").tags["mnist_lab.ensemble"] == "3"


def test_an_ensemble_costs_what_its_members_cost(make_study, promote, networks):
    make_study("a", MIXED)
    limits = {each.name: each for each in promote("a", members=3).decision.judgement.criteria}
    one = keras.saving.load_model(networks["good"]).count_params()
    assert limits["parameters"].value == 3 * one


def test_an_ensemble_beyond_the_gates_parameters_trains_nothing(make_study, promote, stage):
    make_study("a")
    stage.trained.clear()
    policy = GatePolicy(maximum_parameters=200)
    with pytest.raises(MnistLabError, match="trial 0 would have 300 parameters") as caught:
        promote("a", members=3, policy=policy)
    assert "fewer members" in caught.value.next_step
    assert stage.trained == []


def test_an_ensemble_beyond_the_gates_parameters_is_refused_before_a_confirmation(
    make_study, client, settings
):
    make_study("a", confirmed=False)
    ask = partial(promotions.require_promotable, client, "a", settings, design=Design(top=1))
    ask(policy=GatePolicy(maximum_parameters=300), members=3)
    with pytest.raises(MnistLabError, match="trial 0 would have 300 parameters"):
        ask(policy=GatePolicy(maximum_parameters=299), members=3)


def test_an_ensemble_beyond_the_gates_parameters_is_promoted_by_force(make_study, promote, lenient):
    make_study("a", MIXED)
    policy = replace(lenient, maximum_parameters=200)
    assert promote("a", members=3, policy=policy, force=True).promoted


def test_an_ensemble_without_a_page_to_stand_on_opens_nothing(make_study, promote, stage, client):
    make_study("a", MIXED)
    stage.train_all("a")
    client.delete_run(stage.tracker.open_study(open_study(stage.settings, "a").record))
    with pytest.raises(MnistLabError, match="page of study 'a' in MLflow is gone") as caught:
        promote("a", members=3)
    assert caught.value.next_step.endswith("mnist-lab sync a")
    assert count_openings_for(client, NAME) == 0


def test_an_ensemble_that_could_not_be_loaded_opens_nothing(
    make_study, promote, client, monkeypatch
):
    make_study("a", MIXED)
    monkeypatch.setattr("mnist_lab.models.safe.MOST_PARAMETERS", 1000)
    with pytest.raises(DataError, match="is refused"):
        promote("a", members=3)
    assert client.search_registered_models() == []


def test_of_three_ensembles_two_are_compared_where_a_replica_failed(
    make_study, promote, stage, settings
):
    make_study("a", "none")
    make_study("b", MIXED)
    promote("a")
    stage.failing = {("b", Replica(of=0, left_out=3, round=2))}
    promotion = promote("b", members=3)
    comparison = promotion.decision.judgement.comparison
    assert comparison.trainings == (2, 11)
    assert comparison.public.images == 240
    assert "2 ensembles of 3 trainings" in " ".join(
        describe_judgement(promotion.decision.judgement)
    )


def test_an_ensemble_whose_run_was_deleted_gets_no_second_version(make_study, promote, client):
    make_study("a", "good")
    make_study("b", "none")
    promote("a")
    promote("b", members=3)
    client.delete_run(client.get_model_version(NAME, "2").run_id)
    promotion = promote("b", members=3, force=True)
    assert (promotion.version, promotion.promoted) == (2, True)


def test_of_an_ensemble_whose_study_is_gone_the_file_alone_is_compared(
    make_study, promote, stage, settings
):
    make_study("a", ("none", "none", "some"))
    make_study("b", "good")
    promote("a", members=3)
    for name in ("a", "a+confirm"):
        optuna.delete_study(study_name=name, storage=settings.storage)
    comparison = promote("b").decision.judgement.comparison
    assert (comparison.public, comparison.trainings, comparison.members) == (None, (5, 1), (1, 3))


POINTS = [
    pytest.param(each, marks=() if each in (8, 20) else pytest.mark.slow) for each in range(41)
]


@pytest.mark.only_by_default("20")
@pytest.mark.parametrize("point", POINTS)
def test_an_ensembles_promotion_that_was_killed_anywhere_converges(
    make_study, promote, stage, client, kill_after, point
):
    make_study("a", "none")
    make_study("b", MIXED)
    promote("a")
    stage.train_all("a", "b")
    with kill_after(point):
        promote("b", members=3)
    assert client.get_registered_model(NAME).aliases["champion"] in (1, 2)
    promote("b", members=3)
    assert client.get_registered_model(NAME).aliases == {"champion": 2, "previous": 1}
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2
    (challenge,) = read_all_challenges(client, NAME)
    assert (challenge.number, challenge.verdict, challenge.by.members) == (1, "promote", 3)
    decision = read_decision(client.get_model_version(NAME, "2"))
    assert decision.openings == 2
    experiment = client.get_experiment_by_name("mnist-lab/tiny-fnn").experiment_id
    runs = client.search_runs([experiment], "tags.`mnist_lab.level` = 'ensemble'")
    assert [run.info.status for run in runs] == ["FINISHED"]


# As other commits wrote them: the facts of the challenger, those of the challenge, the tag's end.
OTHERS = {
    "0c3da79": ({"ensemble": 0}, {}, "0001"),
    "d38b1d2": ({"ensemble": 0}, {"number": 1}, "e" * 16),
    "53e668d": ({}, {"number": 1}, "e" * 16),
    "a later one": ({"device": "gpu"}, {"number": 1, "rounds": 2}, "e" * 16),
}


@pytest.mark.parametrize("commit", OTHERS)
def test_a_challenge_of_other_versions_is_finished_in_its_own_tag(
    make_study, promote, client, commit
):
    make_study("a")
    promote("a")
    own, more, end = OTHERS[commit]
    by = {"study": "b", "study_id": "b", "trial": 0, "champion": 1, "policy": "p", **own}
    earlier = {"when": "2026-11-28T02:54:01+00:00", "by": by, "significance": 0.05,
               "promotions": 0, "verdict": "", **more}  # fmt: skip
    key = f"mnist_lab.challenge.{'d' * 16}.{end}"
    client.set_registered_model_tag(NAME, key, json.dumps(earlier))
    challenger = Challenger(study="b", study_id="b", trial=0, champion=1, policy="p")
    again = begin_challenge(client, NAME, "d" * 16, challenger, GatePolicy(), dataset_digest="")
    finish_challenge(client, NAME, "d" * 16, again, "tie")
    (found,) = read_all_challenges(client, NAME)
    assert (found.number, found.verdict) == (1, "tie")
