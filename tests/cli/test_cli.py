"""The command line as a user types it: Typer's runner for what looks, processes for what trains."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes import epoch_metrics
from mnist_lab.api.watch import plain_listener, render
from mnist_lab.cli import app as app_module
from mnist_lab.cli.output import percent
from mnist_lab.cli.studies import print_leaderboard
from mnist_lab.cli.sweep import exit_as
from mnist_lab.data import ImageForm
from mnist_lab.errors import DiskFullError, InterruptedSweep, MnistLabError
from mnist_lab.publish.background import Backlog
from mnist_lab.publish.writer import NoFigures
from mnist_lab.study.stopped import INTERRUPTED, Stopped, StopReason
from mnist_lab.sweep.actions import News, NewsKind
from mnist_lab.sweep.progress import Progress, SweepResult


@pytest.fixture
def lab(settings, monkeypatch, capsys, tmp_path):
    """Type a command in this process, in another folder than the home: its exit code and outputs."""
    monkeypatch.setenv("KERAS_BACKEND", "none")  # workers get the fake trainer, and no TensorFlow
    monkeypatch.setenv("MNIST_LAB_HOME", str(settings.root))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def type_in(*words):
        monkeypatch.setattr(sys, "argv", ["mnist-lab", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            app_module.main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return type_in


@pytest.fixture
def fake_training(monkeypatch):
    import mnist_lab.sweep
    from mnist_lab.execution.worker import WorkerSpec

    assert WorkerSpec.trainer  # the product's default is the real one
    real = mnist_lab.sweep.launch
    monkeypatch.setattr("mnist_lab.execution.inline.configure", lambda _: None)
    monkeypatch.setattr(
        mnist_lab.sweep,
        "launch",
        lambda config, settings, **options: real(
            replace(config, executor="inline", workers=None),
            settings,
            trainer="fakes:run_trial",
            make_figures=lambda *_: NoFigures(),
            **options,
        ),
    )


def test_the_version_is_printed(lab):
    code, out, _ = lab("--version")
    assert (code, out) == (0, "mnist-lab 0.1.0\n")


@pytest.mark.parametrize(
    "command",
    ["sweep", "train", "spaces", "studies", "leaderboard", "compare", "confirm", "promote", "rollback",
     "models", "evaluate", "predict", "export", "serve", "reproduce", "sync", "doctor", "data",
     "ui", "report", "explain", "mistakes", "dashboard"],
)  # fmt: skip
def test_every_command_has_help_with_an_example(lab, command):
    code, out, _ = lab(command, "--help")
    assert code == 0
    assert f"Example: mnist-lab {command}" in " ".join(out.split())


def test_help_says_what_every_option_of_a_sweep_is_without_it(lab):
    _, out, _ = lab("sweep", "--help")
    said = " ".join(out.split())
    assert "[default: 50]" in said  # of --trials
    assert "[default: halving]" in said


def test_no_summary_of_a_command_is_cut_short(lab):
    _, out, _ = lab("--help")
    assert "  sweep        Run a study, or go on with it." in out
    assert "..." not in out.partition("Commands:")[2]


def test_spaces_are_listed(lab):
    code, out, _ = lab("spaces")
    assert code == 0
    assert "fnn-v1" in out
    assert "cnn-v1" in out


def test_a_space_is_shown_with_ranges_conditions_baseline_and_size(lab):
    _, out, _ = lab("spaces", "cnn")
    assert "8 to 64 (log)" in out
    assert "when blocks is 2 or 3" in out
    assert "1,386,506 Keras parameters" in out


def test_a_space_as_json_comes_back_whole(lab):
    _, out, _ = lab("spaces", "fnn", "--json")
    shown = json.loads(out)
    assert shown["baseline"]["units_1"] == 784
    assert set(shown["distributions"]) == set(shown["defaults"])
    assert [space["name"] for space in json.loads(lab("spaces", "--json")[1])] == [
        "fnn",
        "fnn",
        "cnn",
        "cnn",
        "cnn",
    ]


def test_checking_a_space_builds_its_corners(lab, monkeypatch):
    # In the command, TensorFlow is set up first; here the suite may have imported it already.
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setattr("mnist_lab.training.configure", lambda _: None)
    code, out, _ = lab("spaces", "fnn", "--check")
    assert code == 0
    assert "Every corner builds, the baseline trains. Keras parameters: baseline 717,210" in out


def test_an_unknown_space_is_one_line_with_the_nearest_name(lab):
    code, out, err = lab("spaces", "cmn")
    assert (code, out) == (64, "")
    assert err.count("\n") == 1
    assert "Did you mean 'cnn'?" in err


def test_debug_shows_the_traceback(lab):
    assert "Traceback" in lab("spaces", "cmn", "--debug")[2]


def test_a_wrong_option_is_a_usage_error(lab):
    code, _, err = lab("sweep", "cnn", "--trails", "3")
    assert code == 64
    assert "--trails" in err
    assert "See: mnist-lab sweep --help" in err


def test_an_unexpected_error_says_how_to_see_more(lab, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("surprise")

    monkeypatch.setattr("mnist_lab.spaces.get_space", fail)
    code, _, err = lab("spaces", "cnn")
    assert code == 70
    assert "Unexpected RuntimeError: surprise. Add --debug for the traceback." in err


def test_ctrl_c_in_any_command_names_the_way_on(lab, monkeypatch):
    def interrupt(_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mnist_lab.spaces.get_space", interrupt)
    code, _, err = lab("spaces", "cnn")
    assert code == 130
    assert "Interrupted. Type the same command again to go on." in err


def test_a_parameter_of_the_colour_version_can_be_set():
    from mnist_lab.cli.sweep import _assign
    from mnist_lab.spaces import get_space

    versions = [get_space("cnn", colour=colour) for colour in (False, True)]
    assert _assign(versions, "flip=true") == ("flip", [True])
    assert _assign(versions, "blocks=2") == ("blocks", [2])
    with pytest.raises(MnistLabError, match="nope"):
        _assign(versions, "nope=1")


def test_data_shows_splits_and_class_counts(lab, small_file):
    code, out, _ = lab("data", small_file)
    assert code == 0
    assert "600" in out
    assert "test images sealed" in out
    shown = json.loads(lab("data", small_file, "--json")[1])
    assert [split["images"] for split in shown["splits"]] == [600, 120]
    assert sum(shown["splits"][0]["classes"]) == 600


def test_bad_data_is_a_data_error(lab, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"no")
    code, _, err = lab("data", tmp_path / "bad.npz")
    assert code == 66
    assert "Nothing was trained" in err


def test_a_sweep_prints_its_leaderboard_and_the_next_commands(lab, small_file, fake_training):
    code, out, err = lab("sweep", "fnn", "--trials", 3, "--epochs", 2, "--dataset", small_file)
    assert code == 0
    assert "tiny-fnn-v2-2ep: 3 of 3 trials finished" in out
    assert "mnist-lab promote tiny-fnn-v2-2ep" in out
    assert "[3/3]" in err
    assert "epoch 2/2" in err


def test_trials_are_shown_side_by_side(lab, small_file, fake_training):
    words = ("--trials", 2, "--epochs", 2, "--dataset", small_file, "--pruner", "none")
    lab("sweep", "fnn", *words, "--study", "two")
    code, out, _ = lab("compare", "two", "0", "1")
    assert code == 0
    assert "val_accuracy, epoch 2" in out
    assert "trial 1" in out
    shown = json.loads(lab("compare", "two", "0", "1", "--json")[1])
    assert shown["facts"]["state"] == ["complete", "complete"]
    row = next(line for line in out.splitlines() if line.startswith("units_1"))
    assert row.split() == ["units_1", *map(str, shown["differ"]["units_1"])]


@pytest.mark.parametrize("words", [("0",), ("0", "7")])
def test_a_comparison_needs_two_trials_that_are_there(lab, small_file, fake_training, words):
    options = ("--trials", 1, "--epochs", 1, "--dataset", small_file, "--study", "alone")
    lab("sweep", "fnn", *options)
    assert lab("compare", "alone", *words)[0] == 64


def test_a_sweep_as_json_is_all_that_standard_output_holds(lab, small_file, fake_training):
    words = ("--trials", 2, "--epochs", 1, "--dataset", small_file, "--json", "--study", "j")
    shown = json.loads(lab("sweep", "fnn", *words)[1])
    assert (shown["study"], shown["finished"], len(shown["leaderboard"])) == ("j", 2, 2)
    assert shown["lag"] == {"items": 0, "why": ""}
    assert (shown["stopped"], shown["stop_reason"]) == ("", "")


def test_studies_and_leaderboards_are_shown_after_a_sweep(lab, small_file, fake_training):
    lab("sweep", "fnn", "--trials", 2, "--epochs", 1, "--dataset", small_file, "--study", "seen")
    assert "seen" in lab("studies")[1]
    assert json.loads(lab("studies", "--json")[1])[0]["complete"] == 2
    assert "(baseline)" in lab("leaderboard")[1]
    assert len(json.loads(lab("leaderboard", "seen", "--top", "1", "--json")[1])) == 1


def test_a_sweep_without_a_whole_trial_says_so_instead_of_an_empty_table(capsys):
    print_leaderboard([], title="s: 0 of 6 trials finished")
    out = capsys.readouterr().out
    assert out == "s: 0 of 6 trials finished\nNo trial has been trained to its end yet.\n"


def test_an_experiment_file_is_swept_and_options_win(lab, small_file, fake_training):
    file = Path("exp.toml")
    file.write_text(
        f'space = "fnn"\ntrials = 9\nepochs = 1\nstudy = "from-file"\ndataset = "{small_file}"\n'
    )
    code, out, _ = lab("sweep", file, "--trials", 2)
    assert code == 0
    assert "from-file: 2 of 2 trials finished" in out


def test_an_unknown_key_in_an_experiment_is_a_configuration_error(lab):
    Path("exp.toml").write_text('space = "fnn"\nepoch = 1\n')
    code, _, err = lab("sweep", "exp.toml")
    assert code == 78
    assert "exp.toml, line 2: unknown key 'epoch'. Did you mean 'epochs'?" in err


def test_a_sweep_without_a_space_asks_for_one(lab):
    code, _, err = lab("sweep")
    assert code == 64
    assert "mnist-lab sweep cnn" in err


def test_a_parameter_is_set_from_the_command_line(lab, small_file, fake_training):
    words = ("--set", "dropout=0.25", "--epochs", 1, "--dataset", small_file, "--study", "one")
    code, _, _ = lab("train", "fnn", *words)
    assert code == 0
    row = json.loads(lab("leaderboard", "one", "--json")[1])[0]
    assert row["params"]["dropout"] == 0.25
    assert row["baseline"] is False


@pytest.mark.parametrize("word", ["dropout", "dropout=lots", "dropuot=0.5", "dropout=7"])
def test_a_wrong_assignment_is_a_usage_error(lab, word):
    assert lab("train", "fnn", "--set", word)[0] == 64


def test_a_grid_is_given_on_the_command_line(lab, small_file, fake_training):
    words = ("--epochs", 1, "--dataset", small_file, "--study", "g", "--sampler", "grid")
    code, out, err = lab("sweep", "fnn", *words, "--grid", "units_1=32,64")
    assert code == 0
    assert "3 of 3 trials finished" in out
    assert "Promote it:    mnist-lab promote g" in out
    assert "Stopped" not in err


def test_trainings_that_begin_in_one_second_are_two_studies(lab, small_file, fake_training):
    for _ in range(2):
        assert lab("train", "fnn", "--epochs", 1, "--dataset", small_file)[0] == 0
    studies = json.loads(lab("studies", "--json")[1])
    assert len({each["study"] for each in studies}) == 2


def test_a_decimal_comma_is_not_taken_for_a_list(lab):
    code, _, err = lab("train", "fnn", "--set", "dropout=0,2")
    assert code == 64
    assert "--set keeps dropout at one value, not 2" in err


def test_a_negative_seed_is_refused(lab):
    code, _, err = lab("sweep", "fnn", "--seed", "-1")
    assert code == 78
    assert "seed must be at least 0, not -1" in err


def test_a_space_in_a_file_is_swept(lab, small_file, fake_training):
    Path("mine.py").write_text(
        "from optuna.distributions import IntDistribution\n"
        "from mnist_lab.spaces import search_space\n"
        "@search_space(name='mine', version=1, description='', defaults={'units': 16},\n"
        "              distributions={'units': IntDistribution(8, 64)})\n"
        "def mine(params, input_shape, classes):\n    raise AssertionError('not with the fake')\n"
    )
    words = ("--trials", 2, "--epochs", 1, "--dataset", small_file)
    code, out, _ = lab("sweep", "--space-file", "mine.py:mine", *words)
    assert code == 0
    assert "tiny-mine-v1-1ep" in out
    assert "units" in lab("spaces", "--space-file", "mine.py:mine")[1]


@pytest.fixture
def registered(monkeypatch):
    """What is registered and promoted, answered without Keras."""
    from mnist_lab import models, study
    from mnist_lab import promotion as promotions
    from mnist_lab.api import run as api
    from mnist_lab.models.versions import VersionRow
    from mnist_lab.promotion.aliases import AliasEvent
    from mnist_lab.promotion.decision import PromotionRecord
    from mnist_lab.promotion.evidence import Arm, compare_arms
    from mnist_lab.promotion.gate import Costs, GatePolicy, Test, judge, judge_first
    from mnist_lab.promotion.promote import Promotion

    random, costs = np.random.default_rng(0), Costs(parameters=9, file_size=9, latency=1.0)
    test = Test(challenge=1, level=0.0304, significance=0.05)

    def arm(share):
        parts = {part: random.random((3, 1000)) < share for part in (2, 3, 4)}
        return Arm(parts=parts, sealed=random.random((11, 1000)) < share)

    rows = [
        VersionRow(
            name="mnist-cnn", version=2, aliases=("champion",), study="s", trial=3,
            val_accuracy=0.99, test_accuracy=0.985, verdict="promote", run="r",
        )
    ]  # fmt: skip
    event = AliasEvent(number=1, when="2026-11-24", why="promote: x", aliases={"champion": 2},
                       done=True)  # fmt: skip
    monkeypatch.setattr(models, "list_versions", lambda client, name=None: rows)
    monkeypatch.setattr(promotions, "read_history", lambda client, name: [event])
    monkeypatch.setattr(study, "read_confirmation", lambda *_, **__: True)
    monkeypatch.setattr(study, "open_study", lambda *_: None)
    monkeypatch.setattr(api, "write_pages", lambda *_, **__: api.Pages())

    def promotes(*, wrong=0.01, before=0.06, forced=False, already=False):
        policy = GatePolicy()
        judgement = (
            judge_first(1 - wrong, 0.01, costs, policy)
            if before is None
            else judge(compare_arms(arm(wrong), arm(before)), {"3": (0.0, 0.0)}, 0.01, costs, policy,
                       test, is_smaller=False)
        )  # fmt: skip
        against = None if before is None else 1
        decision = PromotionRecord(
            when="now", version=2, champion=against, opponent=against, forced=forced,
            accuracy=1 - wrong, champion_accuracy=before and 1 - before,
            openings=1, policy=policy, judgement=judgement,
        )  # fmt: skip
        promotion = Promotion(
            name="mnist-cnn", study="s", trial=3, val_accuracy=0.99, version=2,
            decision=None if already else decision, already=already,
            promoted=decision.promoted and not already,
        )  # fmt: skip
        monkeypatch.setattr(promotions, "promote", lambda *_, **__: promotion)

    return promotes


def test_a_promotion_says_what_was_and_what_is(lab, registered):
    registered()
    code, out, _ = lab("promote", "s")
    assert code == 0
    assert "mnist-cnn, version 2: trial 3 of s, validation accuracy 99.00%" in out
    assert "trainings of the champion (version 1) have 94.00% in the mean." in out
    assert "\nBetter than the champion: +" in out
    assert "11 trainings of each, on 3,000 public images" in out
    assert "\nVerdict: promote (better than the champion)." in out
    assert "mnist-cnn@champion is now version 2." in out
    assert "mnist-lab rollback mnist-cnn" in out


def test_a_promotion_as_json(lab, registered):
    registered(before=None)
    shown = json.loads(lab("promote", "s", "--json")[1])
    assert (shown["promoted"], shown["version"]) == (True, 2)
    assert shown["decision"]["judgement"]["verdict"] == "promote"


def test_a_worse_model_is_refused_with_the_interval_and_exits_with_one(lab, registered):
    registered(wrong=0.06, before=0.01)
    code, out, _ = lab("promote", "s")
    assert code == 1
    assert "\nWorse than the champion: -" in out
    assert "(95 % interval -" in out
    assert "\nVerdict: reject" in out
    assert "No alias but challenger was moved." in out
    assert json.loads(lab("promote", "s", "--json")[1])["promoted"] is False


def test_a_promotion_by_force_says_so(lab, registered):
    registered(wrong=0.06, before=0.01, forced=True)
    code, out, _ = lab("promote", "s", "--force")
    assert code == 0
    assert "is now version 2 by force." in out


def test_a_champion_is_not_promoted_over_itself(lab, registered):
    registered(already=True)
    code, out, _ = lab("promote", "s")
    assert code == 1
    assert "Nothing to do: trial 3 of s is champion already (mnist-cnn, version 2)." in out


def test_a_model_is_shown_with_the_history_of_its_aliases(lab, registered):
    out = lab("models", "mnist-cnn")[1]
    assert "champion -> 2" in out
    assert "Openings of their sealed test images, for whichever model: 0." in out
    shown = json.loads(lab("models", "mnist-cnn", "--json")[1])
    assert shown["history"][0]["why"] == "promote: x"


def test_what_to_send_to_the_server_is_pixels_of_the_models_form(lab, tmp_path, monkeypatch):
    from mnist_lab import models

    asked = {"inputs": [[[7]]]}
    monkeypatch.setattr(models, "encode_request", lambda *_, **__: asked)
    np.save(tmp_path / "x.npy", np.full((1, 28, 28), 7, np.uint8))
    code, out, _ = lab("predict", "mine@champion", tmp_path / "x.npy", "--request")
    assert (code, json.loads(out)) == (0, asked)


def test_predictions_are_a_table_or_json(lab, tmp_path, monkeypatch):
    from mnist_lab import models
    from mnist_lab.models.predict import Prediction

    row = Prediction(
        source="x.npy[0]", label=1, name="dog", probability=0.9, probabilities=(0.1, 0.9),
        unlike="darker than the training images",
    )  # fmt: skip
    images = ImageForm(class_names=("cat", "dog"))
    monkeypatch.setattr(models, "predict", lambda *_, **__: ("mnist-cnn/2", images, [row]))
    np.save(tmp_path / "x.npy", np.zeros((28, 28), np.uint8))
    out = lab("predict", "mnist-cnn@champion", tmp_path / "x.npy")[1]
    assert "mnist-cnn/2" in out
    assert "dog    90.00%       cat 0.100  darker than the training images" in out
    shown = json.loads(lab("predict", "mnist-cnn@champion", tmp_path / "x.npy", "--json")[1])
    assert shown["predictions"][0]["name"] == "dog"


def test_an_export_says_what_it_wrote_and_how_near_it_is(lab, monkeypatch):
    from mnist_lab import models
    from mnist_lab.models.export import Export

    done = Export(
        model="mnist-cnn/2", format="h5", files=(Path("exports/x.h5"),), difference=1e-7,
        needs=("keras>=3.15.1", "tensorflow>=2.21.0"),
    )  # fmt: skip
    monkeypatch.setattr(models, "export", lambda *_: done)
    out = lab("export", "mnist-cnn@champion", "--format", "h5")[1]
    assert "mnist-cnn/2 as h5: exports/x.h5" in out
    assert "1e-07 at most" in out
    assert "To read it: keras>=3.15.1, tensorflow>=2.21.0; Keras does not read what a newer" in out
    shown = json.loads(lab("export", "mnist-cnn@champion", "--json")[1])
    assert shown["files"] == ["exports/x.h5"]
    assert shown["needs"] == ["keras>=3.15.1", "tensorflow>=2.21.0"]


@pytest.mark.parametrize(("outcome", "expected"), [("bit-exact", 0), ("diverged", 1)])
def test_a_reproduction_says_what_differs(
    lab, fake_training, small_file, monkeypatch, outcome, expected
):
    from mnist_lab import sweep
    from mnist_lab.sweep.reproduce import Reproduction

    lab("sweep", "fnn", "--trials", 1, "--epochs", 1, "--dataset", small_file, "--study", "s")
    done = Reproduction(
        study="s", trial=0, outcome=outcome, epochs=1, recorded=0.9, found=0.8,
        first_difference=None if outcome == "bit-exact" else 1,
        environment={"keras": ("2", "3")},
    )  # fmt: skip
    monkeypatch.setattr(sweep, "reproduce", lambda *_, **__: done)
    code, out, _ = lab("reproduce", "s", "0")
    assert code == expected
    assert f"s trial 0: {outcome} over 1 epochs" in out
    assert "keras: 2 then, 3 now" in out
    assert ("Epoch 1 is the first that differs." in out) == (outcome == "diverged")
    again = lab("reproduce", "s", "--json")
    assert json.loads(again[1])["outcome"] == outcome, again


def test_serving_becomes_the_server_after_saying_how_to_ask_it(lab, monkeypatch):
    from mnist_lab import models

    called = []
    monkeypatch.setattr(models, "prepare", lambda *_: Path("folder"))
    monkeypatch.setattr("os.execv", lambda program, words: called.append(words))
    out = lab("serve", "mnist-cnn@champion", "--port", 5777)[1]
    assert "curl --data @- --header 'Content-Type: application/json'" in out
    assert "http://127.0.0.1:5777/invocations" in out
    (words,) = called
    assert words[words.index("--host") + 1] == "127.0.0.1"


def test_an_unknown_model_is_refused_with_the_known_ones(lab):
    code, _, err = lab("models", "mnist-cnm")
    assert code == 64
    assert "There is no registered model 'mnist-cnm'" in err


def test_models_are_listed_with_alias_and_accuracies(lab, registered):
    out = lab("models")[1]
    assert "champion" in out
    assert "98.50%" in out


def test_the_test_images_of_an_unknown_study_cannot_be_opened(lab):
    code, _, err = lab("evaluate", "nothing")
    assert code == 64
    assert "There is no study 'nothing'" in err


def result(**changes):
    fields = {
        "study": "s", "total": 9, "finished": 2, "best": None, "reasons": {}, "stopped": None,
        "signal": 0, "lag": Backlog(),
    }  # fmt: skip
    return SweepResult(**{**fields, **changes})


@pytest.mark.parametrize(("code", "name"), [(130, "Ctrl-C"), (143, "SIGTERM")])
def test_an_interrupted_sweep_exits_with_the_signals_code_and_the_way_on(code, name, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mnist-lab", "sweep", "my space.toml", "--trials", "9"])
    with pytest.raises(
        InterruptedSweep, match=r"Go on with: mnist-lab sweep 'my space\.toml' --trials 9"
    ) as caught:
        exit_as(result(stopped=INTERRUPTED, signal=code))
    assert caught.value.exit_code == code


def test_a_full_disk_exits_with_75_and_names_the_place():
    why = "disk_full (/there/trial-0001: No space left on device, 0 bytes free)"
    with pytest.raises(
        DiskFullError, match=r"/there/trial-0001.*0 bytes free.*Repair the disk"
    ) as caught:
        exit_as(result(stopped=Stopped(StopReason.DISK, why)))
    assert caught.value.exit_code == 75


def test_what_mlflow_lacks_is_said_with_the_command_that_brings_it(
    lab, small_file, fake_training, monkeypatch, free_port
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{free_port}")
    words = ("--trials", 2, "--epochs", 1, "--dataset", small_file, "--study", "far")
    code, out, err = lab("sweep", "fnn", *words, "--workers", 1)
    assert code == 0
    assert "2 of 2 trials finished" in out
    assert "Nothing is lost" in err
    assert "type: mnist-lab sync far" in err
    assert "secret" not in err + out
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    code, out, _ = lab("sync", "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["study"], row["trials"], row["written"], row["models"]) == ("far", 2, 2, 2)
    assert lab("sync")[1].split()[-4:] == ["far", "2", "0", "0"]
    assert lab("doctor") == (0, "Nothing is wrong.\n", "")


def test_the_doctor_shows_its_findings_and_repairs_them(lab, small_file, fake_training, settings):
    words = ("--trials", 2, "--epochs", 1, "--dataset", small_file, "--study", "s")
    lab("sweep", "fnn", *words, "--workers", 1)
    left = settings.work / "s" / "trial-0001"
    left.mkdir()
    code, out, _ = lab("doctor")
    assert code == 1
    assert "left over from a trial that has ended" in out
    code, out, _ = lab("doctor", "--json")
    assert (code, json.loads(out)[0]["repairable"]) == (1, True)
    assert lab("doctor", "--repair") == (0, "Nothing is wrong.\n", "")
    assert not left.exists()


def test_a_sweep_of_failures_exits_with_one():
    stopped = Stopped(StopReason.FAILURES, "10 trials in a row failed")
    with pytest.raises(MnistLabError, match="10 trials in a row failed") as caught:
        exit_as(result(stopped=stopped, reasons={"crashed": 10}))
    assert caught.value.exit_code == 1


def test_a_sweep_that_failed_prints_its_reasons(lab, small_file, monkeypatch):
    import mnist_lab.sweep

    real = mnist_lab.sweep.launch
    monkeypatch.setattr(
        mnist_lab.sweep,
        "launch",
        lambda config, settings, **o: real(
            config, settings, trainer="fakes:run_failing_trial", **o
        ),
    )
    words = ("--trials", 9, "--max-failures", 2, "--epochs", 1, "--dataset", small_file)
    code, out, err = lab("sweep", "fnn", *words, "--workers", 1)
    assert code == 1
    assert "2 failed: diverged" in out
    assert "2 trials in a row failed" in err
    assert "correct the cause" in err


def progress(**changes):
    fields = {
        "study": "s", "total": 9, "epochs": 4, "complete": 2, "pruned": 1, "failed": 1,
        "best": (1, 0.9876), "running": {5: epoch_metrics(2, 0.5), 6: None}, "seconds_left": 75.0,
    }  # fmt: skip
    return Progress(**{**fields, **changes})


def draw(renderable):
    from rich.console import Console

    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(renderable)
    console.file.close()
    return console.export_text()


def test_the_live_view_has_a_row_for_each_running_trial():
    text = draw(render(progress()))
    assert "4/9" in text
    assert "2 complete  1 pruned  1 failed" in text
    assert "best 0.9876 (trial 1)" in text
    assert "1:15 left" in text
    rows = [line.split() for line in text.splitlines()[-2:]]
    assert [(row[0], row[1]) for row in rows] == [("5", "2/4"), ("6", "0/4")]


def test_the_live_view_of_a_beginning_promises_nothing():
    text = draw(render(progress(best=None, seconds_left=None, running={})))
    assert "best" not in text
    assert "left" not in text


def test_the_plain_view_says_nothing_when_nothing_happened(capsys):
    from rich.console import Console

    tell = plain_listener(Console())
    tell(progress(news=None))
    tell(progress(news=News(NewsKind.EPOCH, "trial 5 epoch 2/4")))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("[4/9] trial 5 epoch 2/4")


def test_a_share_is_printed_as_percent():
    assert (percent(0.9905), percent(None)) == ("99.05%", "")


def test_ui_says_where_a_remote_server_is(lab, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("mnist_lab.tracking.store.open_client", lambda _: None)
    assert "already there: http://127.0.0.1:9" in lab("ui")[1]


def test_ui_becomes_mlflows_server(lab, monkeypatch):
    called = []
    monkeypatch.setattr(os, "execve", lambda *words: called.append(words))
    _, out, _ = lab("ui", "--port", 5777)
    assert "http://127.0.0.1:5777" in out
    program, words, environment = called[0]
    assert program == sys.executable
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--allowed-hosts") + 1] == "127.0.0.1:5777,localhost:5777"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # eleven processes that import TensorFlow, on a machine that is busy
def test_the_whole_story_with_real_keras_in_a_fresh_folder(
    settings, small_file, client, plain_mlflow
):
    """From sweep to models: each its own process, as typed, and read with plain MLflow."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("KERAS", "MLFLOW_TRACK"))
    }
    script = Path(sys.executable).parent / "mnist-lab"

    def type_in(*words, code=0):
        done = subprocess.run(
            [str(script), *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    words = (
        "--epochs",
        "1",
        "--dataset",
        str(small_file),
        "--set",
        "blocks=1",
        "--set",
        "filters_1=8",
    )
    gate = settings.root / "gate.toml"
    gate.write_text("minimum_accuracy = 0.0\nmaximum_calibration_error = 1.0\n")
    type_in("sweep", "cnn", "--trials", "3", *words, "--study", "first", "--keep-models", "2")
    again = ("--top", "2")
    planned = type_in("promote", "first", "--dry-run", *again)
    assert "Nothing was trained, registered or opened." in planned
    confirmed = json.loads(type_in("confirm", "first", *again, "--json"))
    assert [len(row["accuracies"]) for row in confirmed["rows"]] == [2, 1]
    planned = type_in("promote", "first", "--dry-run", *again)
    assert "would be trained three times, or up to nine" in planned
    planned = type_in("promote", "first", "--dry-run", *again, "--ensemble", "3")
    assert "would be an ensemble of 3: 9 trainings, less those it has" in planned
    promoted = type_in("promote", "first", *again, "--gate", str(gate))
    assert "tiny-cnn@champion is now version 1" in promoted
    assert "(opening 1 of these images)" in promoted
    assert "Nothing to do: trial" in type_in("promote", "first", *again, code=1)
    opened = json.loads(type_in("evaluate", "tiny-cnn@champion", "--json"))
    assert (opened["openings"], opened["samples"]) == (2, 120)
    rows = json.loads(type_in("models", "--json"))
    assert [(row["name"], row["aliases"]) for row in rows] == [("tiny-cnn", ["champion"])]

    run = client.get_run(rows[0]["run"])
    assert run.data.tags["mnist_lab.stage"] == "confirm"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "card", "config.json", "decision", "evaluation", "model", "test",
    }  # fmt: skip
    # Two of the search, three of confirm, three of promote.
    assert len(client.search_logged_models([run.info.experiment_id])) == 8
    model = plain_mlflow.keras.load_model("models:/tiny-cnn@champion")
    assert model.predict(np.zeros((2, 28, 28), np.uint8), verbose=0).shape == (2, 10)


def test_ctrl_c_in_a_terminal_names_the_way_on(settings, small_file):
    program = (
        "import sys, mnist_lab.sweep as s; real = s.launch\n"
        "s.launch = lambda c, e, **o: real(c, e, trainer='fakes:run_slow_trial', **o)\n"
        "from mnist_lab.cli import main\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    (settings.root / "lab.py").write_text(program)
    tests = str(Path(__file__).parent.parent)
    environment = {**os.environ, "KERAS_BACKEND": "none", "PYTHONPATH": tests}
    words = ["sweep", "fnn", "--trials", "9", "--epochs", "40", "--dataset", str(small_file)]
    process = subprocess.Popen(
        [sys.executable, "lab.py", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any("epoch" in line for line in iter(process.stderr.readline, ""))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == (
        "mnist-lab: Interrupted. 0 finished trials and the running ones' epochs are kept. "
        f"Go on with: {shlex.join(['mnist-lab', *words])}"
    )
    assert "Traceback" not in err
