"""The commands that show studies as pages, text and tables."""

from __future__ import annotations

import csv
import json
import sys
from functools import partial
from itertools import pairwise

import pytest
from rich.console import Console

from mnist_lab.cli import app as app_module
from mnist_lab.cli.studies import print_leaderboard, sparkline
from mnist_lab.report import leaderboard
from mnist_lab.study import lock_study
from mnist_lab.study.ledger import Tracked
from studies import make_study


@pytest.fixture
def lab(settings, monkeypatch, capsys, tmp_path):
    """Type a command in this process, in another folder than the home: its exit code and outputs."""
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
def study(settings, small_dataset):
    return make_study(settings, small_dataset, 30, kept=5)


@pytest.fixture
def best(study):
    return [trial.number for trial in study.ranked()[:2]]


def test_a_report_is_kept_in_the_home_and_its_size_is_said(lab, study, settings):
    code, out, _ = lab("report")
    assert code == 0
    assert out.startswith(f"Written: {settings.root / 'reports' / 's.html'} (")


def test_a_report_goes_where_it_is_wanted(lab, study, tmp_path):
    code, out, _ = lab("report", "s", "--out", "mine/s.html", "--json")
    assert code == 0
    assert json.loads(out)["file"] == "mine/s.html"
    assert (tmp_path / "elsewhere" / "mine" / "s.html").stat().st_size == json.loads(out)["bytes"]


def test_a_folder_that_cannot_be_written_is_named(lab, study, tmp_path):
    (tmp_path / "elsewhere" / "file").write_text("")
    code, _, err = lab("report", "s", "--out", "file/s.html")
    assert code != 0
    assert "file/s.html cannot be written" in err


def test_a_report_of_nothing_says_what_to_type(lab):
    code, _, err = lab("report")
    assert code != 0
    assert "mnist-lab sweep cnn" in err


def test_a_study_is_explained_in_words_and_as_data(lab, study):
    _, text, _ = lab("explain", "s")
    assert text.startswith("# s\n\n**Best single run: ")
    _, out, _ = lab("explain", "s", "--json")
    facts = json.loads(out)
    assert facts["verdict"] in text
    assert facts["leaderboard"][0]["rank"] == 1
    assert {"noise", "more_trials", "importances", "mistakes", "cost"} <= set(facts)


def test_trials_are_compared_image_by_image_with_a_page(lab, study, best, tmp_path):
    code, out, _ = lab("compare", "s", *best, "--html", "c.html")
    assert code == 0
    assert f"Only trial {best[0]} is right on " in out
    assert "By class: " in out
    assert 'class="pic"' in (tmp_path / "elsewhere" / "c.html").read_text()


def test_trials_without_predictions_are_compared_without_images(lab, study):
    code, out, _ = lab("compare", "s", 1, 2)
    assert code == 0
    assert "Not image by image" in out


def test_mistakes_are_a_table_a_csv_and_a_page(lab, study, tmp_path):
    code, out, _ = lab("mistakes", "s", "--csv", "m.csv", "--html", "m.html")
    assert code == 0
    assert "Of 120 validation images the 5 best models all miss " in out
    with (tmp_path / "elsewhere" / "m.csv").open() as table:
        rows = list(csv.reader(table))
    assert rows[0][:4] == ["index", "place", "label", "models_say"]
    assert (tmp_path / "elsewhere" / "m.html").exists()


def test_mistakes_without_predictions_say_how_to_get_them(lab, settings, small_dataset):
    make_study(settings, small_dataset, 12)
    code, _, err = lab("mistakes", "s")
    assert code != 0
    assert "mnist-lab confirm s" in err


def test_the_leaderboard_can_be_cut_to_its_front(lab, study):
    _, out, _ = lab("leaderboard", "s", "--json")
    rows = json.loads(out)
    _, out, _ = lab("leaderboard", "s", "--pareto", "parameters", "--json")
    assert json.loads(out) == [row for row in rows if row["pareto"]]


@pytest.mark.parametrize("figure", ["seconds", "latency"])
def test_the_front_of_each_figure_falls_with_the_value(lab, study, figure):
    _, out, _ = lab("leaderboard", "s", "--pareto", figure, "--json")
    rows = json.loads(out)
    assert rows[0]["rank"] == 1
    assert all(first[figure] > then[figure] for first, then in pairwise(rows))


def test_a_figure_that_there_is_not_is_refused(lab, study):
    code, _, err = lab("leaderboard", "s", "--pareto", "beauty")
    assert code != 0
    assert "parameters, seconds, latency" in err
    assert "--pareto parameters" in err


@pytest.fixture
def mlflow_away(lab, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


@pytest.fixture
def tracked(study):
    """The study as another machine sees it: of a trial's files MLflow has the only copy."""
    for trial in study.ranked():
        study.write_tracked(Tracked(trial=trial.number, run="0" * 32, closed=True))
    return study


@pytest.mark.parametrize("command", [("report", "s"), ("explain", "s"), ("compare", "s", 1, 2)])
def test_a_study_is_looked_at_while_mlflow_is_away(lab, tracked, mlflow_away, command):
    code, out, _ = lab(*command)
    assert code == 0
    assert out


def test_a_report_says_that_mlflow_has_no_copy_of_it(lab, study, mlflow_away):
    _, _, err = lab("report", "s")
    assert "MLflow has no copy of the report" in err
    assert "mnist-lab report s" in err


def test_predictions_that_cannot_be_read_are_left_out(lab, study, settings):
    for file in settings.work.rglob("predictions.npz"):
        file.write_bytes(b"torn")
    code, out, _ = lab("compare", "s", 1, 2)
    assert code == 0
    assert "left no predictions" in out


def test_a_study_that_is_swept_is_said_to_be_running(lab, study, settings):
    with lock_study(settings, "s"):
        _, out, _ = lab("explain", "s")
        assert "A sweep is training more trials now." in out
    _, out, _ = lab("explain", "s")
    assert "training more" not in out


def test_a_table_of_suspects_that_cannot_be_written_is_named(lab, study, tmp_path):
    (tmp_path / "elsewhere" / "file").write_text("")
    code, _, err = lab("mistakes", "s", "--csv", "file/s.csv")
    assert code != 0
    assert "file/s.csv cannot be written" in err


def test_a_curve_is_a_line_of_bars():
    assert sparkline([0.0, 0.5, 1.0], 0.0, 1.0) == "▁▅█"
    assert len(sparkline([0.1] * 100, 0.0, 1.0)) == 12
    assert sparkline([0.5], 0.5, 0.5) == "▁"


@pytest.mark.parametrize(("width", "shown"), [(80, ""), (105, "what"), (160, "curve what")])
def test_a_narrow_terminal_is_shown_fewer_columns(
    monkeypatch, capsys, study, settings, width, shown
):
    console = partial(Console, force_terminal=True, no_color=True)
    monkeypatch.setattr(
        "rich.console.Console", lambda **given: console(**{"width": width, **given})
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_leaderboard(leaderboard(study, top=3), title="s")
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(word for word in ("curve", "what") if word in lines[1]) == shown
    assert "parameters" in lines[1]


def test_without_its_extra_the_dashboard_says_what_to_install(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    code, _, err = lab("dashboard")
    assert code != 0
    assert "pip install 'mnist-lab[dashboard]'" in err
