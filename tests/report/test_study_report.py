"""What is gathered of a study, and the pages and text that are written of it."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace

import pytest
from optuna.storages import InMemoryStorage

from mnist_lab.config import parse_config
from mnist_lab.report import describe_reproduction, explain, report_study, summarise
from mnist_lab.report.page import render_card, render_study
from mnist_lab.report.study_report import busy_seconds
from mnist_lab.study import create_study, read_confirmation
from mnist_lab.study.names import confirm_name
from mnist_lab.study.storage import connect
from studies import make_study


def page_of(study, settings):
    return render_study(report_study(study, settings), commands="mnist-lab sweep fnn")


@pytest.fixture
def study(settings, small_dataset):
    return make_study(settings, small_dataset, 30, kept=5)


def test_the_same_study_gives_the_same_bytes(study, settings):
    assert page_of(study, settings) == page_of(study, settings)


def test_a_page_of_a_thousand_trials_stays_below_three_megabytes(settings, small_dataset):
    page = page_of(
        make_study(settings, small_dataset, 1000, kept=5, storage=InMemoryStorage()), settings
    )
    assert len(page.encode()) < 3_000_000


def test_a_page_of_thirty_trials_has_every_section_and_names_every_trial(study, settings):
    page = page_of(study, settings)
    sections = re.findall(r'<section id="(\w+)"', page)
    assert sections == [
        "verdict", "leaderboard", "search", "parameters", "epochs", "failures", "images", "size",
        "cost", "again",
    ]  # fmt: skip
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert [trial["number"] for trial in data["trials"]] == list(range(30))


def test_what_users_write_is_text_and_no_html(study, settings):
    page = page_of(study, settings)
    assert "<b>silu</b>" not in page
    assert "&lt;b&gt;silu&lt;/b&gt;" in page


def test_a_page_fetches_nothing(study, settings):
    page = page_of(study, settings)
    assert not re.findall(r"(?:src|href|action)=", page)
    assert not re.findall(r"url\((?!data:)", page)


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_a_study_with_next_to_nothing_in_it_has_its_page_and_text(settings, small_dataset, trials):
    study = make_study(settings, small_dataset, trials)
    assert "Verdict" in page_of(study, settings)
    assert explain(report_study(study, settings)).startswith("# s\n")


def test_a_study_whose_data_are_gone_is_reported_without_pictures(settings, study):
    record = replace(study.record, dataset_source="gone.npz", name="t")
    other = create_study(connect(settings), record)
    other.study.add_trials(study.study.get_trials())
    report = report_study(other, settings)
    assert report.images is None
    assert "no script" not in page_of(other, settings)
    assert report.rows


def test_trials_that_no_smaller_one_equals_are_the_pareto_front(study, settings):
    rows = report_study(study, settings).rows
    for row in rows:
        better = [each for each in rows if each.rank < row.rank]
        assert row.pareto == all(each.parameters > row.parameters for each in better)


def test_time_between_two_sweeps_is_not_counted(study, settings, small_dataset):
    report = report_study(study, settings)
    last = max(report.trials, key=lambda trial: trial.ended)
    later = replace(
        last,
        number=99,
        began=last.began + 1e6,
        ended=last.ended + 1e6,
        history=tuple(replace(e, timestamp=e.timestamp + 1e6) for e in last.history),
    )
    spent = busy_seconds([*report.trials, later])
    assert spent(later.ended) - spent(last.ended) < 60


def test_a_confirmed_study_begins_with_the_choice_and_its_interval(settings, study):
    record = replace(study.record, name=confirm_name("s"), id="c", confirms=study.record.id)
    replicas = create_study(connect(settings), record)
    best = study.ranked()[:2]
    template = study.study.get_trials()[best[0].number]
    for place in range(4):
        of, value = best[place // 2], 0.95 + 0.0005 * (place % 2)
        trial = template
        trial.number, trial.value = place, value
        trial.user_attrs = {
            **trial.user_attrs,
            "replica_of": of.number,
            "planned_seed": place % 2,
            "start": {"seed": place % 2, "attempt": 1, "fruitless": 0, "epochs": 0},
        }
        replicas.study.add_trial(trial)
    confirmation = read_confirmation(study)
    assert confirmation is not None
    report = report_study(study, settings)
    assert report.verdict.startswith(f"Take trial {confirmation.chosen}: 95.0")
    page = render_study(report, commands="")
    assert "single run" in page
    assert "chosen" in page


def test_the_experiment_of_a_report_can_be_read_again(study, settings):
    again = describe_reproduction(report_study(study, settings), confirmed=True)
    config = parse_config(tomllib.loads(again.toml))
    assert (config.space, config.trials, config.study) == ("fnn-v2", 30, "s")
    assert again.commands.splitlines()[1] == "mnist-lab confirm s"


def test_text_says_the_verdict_first_and_the_next_command_last(study, settings):
    text = explain(report_study(study, settings))
    lines = text.splitlines()
    assert lines[2].startswith("**Best single run: ")
    assert "mnist-lab report s" in lines[-1]
    assert text == explain(report_study(study, settings))


@pytest.mark.parametrize("objective", ["val_loss", "val_f1_macro"])
def test_other_objectives_are_reported_by_their_name(settings, small_dataset, objective):
    study = make_study(settings, small_dataset, 12, objective=objective)
    report = report_study(study, settings)
    assert objective in page_of(study, settings)
    assert "%" not in report.show(0.5) or objective != "val_loss"


def test_a_card_shows_markup_of_its_facts_as_text():
    page = render_card("m/1", "# m\n\n| a | b |\n|--|--|\n| <script>alert(1)</script> | 2 |\n")
    assert "<script>alert" not in page
    assert "<table>" in page


def test_charts_of_a_loss_keep_the_best_epochs_in_sight(settings, small_dataset):
    study = make_study(settings, small_dataset, 30, objective="val_loss")
    low, high = summarise(study).curves
    losses = [epoch.value for trial in study.ranked() for epoch in trial.history]
    assert low < min(losses)
    assert high < max(losses)


def test_a_command_that_makes_a_study_again_keeps_a_switch_switched(study, settings):
    fixed = replace(study.record, fixed='{"flip": true, "activation": "relu", "kernel": [3, 3]}')
    report = replace(report_study(study, settings), record=fixed)
    again = describe_reproduction(report, confirmed=False)
    assert "--set flip=true --set activation=relu --set 'kernel=(3, 3)'" in again.commands
    assert tomllib.loads(again.toml)["set"] == {
        "flip": True,
        "activation": "relu",
        "kernel": [3, 3],
    }


def test_a_command_that_makes_a_study_again_has_its_limits(study, settings):
    limited = {**study.record.settings, "limit.parameters": "100k"}
    report = replace(report_study(study, settings), record=replace(study.record, settings=limited))
    again = describe_reproduction(report, confirmed=False)
    assert "--limit parameters=100k" in again.commands
    assert "- Limits: parameters at most 100k." in explain(report)
    assert tomllib.loads(again.toml)["limit"] == {"parameters": "100k"}
