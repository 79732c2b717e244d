"""Every command from a folder that is not the home: it works, and leaves nothing where it was typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_lab.cli import app as app_module
from mnist_lab.settings import Settings
from mnist_lab.tracking.store import open_client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]  # processes with TensorFlow, on a machine that is busy
SCRIPT = Path(sys.executable).parent / "mnist-lab"


def left_in(folder):
    """What a command has left in a folder; coverage's own notes are not the command's."""
    return [each.name for each in folder.iterdir() if not each.name.startswith(".coverage")]


AGAIN = ("--top", "1")


@pytest.fixture(scope="module")
def places(tmp_path_factory, small_file):
    """A home with a champion, and the folder in which its commands were typed, each as a process.

    The home is named by its way from that folder, and made by the first command.
    """
    root = tmp_path_factory.mktemp("places")
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    (root / "gate.toml").write_text("minimum_accuracy = 0.0\nmaximum_calibration_error = 1.0\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KERAS", "MLFLOW_T"))}
    for words in (
        ("sweep", "fnn", "--trials", "2", "--epochs", "1", "--dataset", small_file, "--study", "s",
         "--pruner", "none"),
        ("promote", "s", *AGAIN, "--gate", root / "gate.toml"),
    ):  # fmt: skip
        done = subprocess.run(
            [str(SCRIPT), *map(str, words)],
            env={**environment, "MNIST_LAB_HOME": "../home"},
            cwd=elsewhere,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert left_in(elsewhere) == [], words
    return root / "home", elsewhere


@pytest.fixture
def away(places, monkeypatch, capsys):
    """Type a command in this process and that folder: its exit code and output."""
    home, elsewhere = places
    # The suite has set up TensorFlow already.
    for module in ("promotion.sealed_test", "models.versions"):
        monkeypatch.setattr(f"mnist_lab.{module}.configure", lambda _: None)
    monkeypatch.setattr("mnist_lab.training.configure", lambda _: None)
    monkeypatch.setenv("MNIST_LAB_HOME", "../home")
    monkeypatch.chdir(elsewhere)
    np.save(home / "x.npy", np.zeros((1, 28, 28), np.uint8))

    def type_in(*words):
        monkeypatch.setattr(sys, "argv", ["mnist-lab", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            app_module.main()
        captured = capsys.readouterr()
        assert left_in(elsewhere) == []
        return end.value.code or 0, captured.out + captured.err

    return type_in


CHAMPION = "tiny-fnn@champion"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("studies", "tiny"),
        ("leaderboard s", "(baseline)"),
        ("compare s 0 1", "val_accuracy, epoch 1"),
        ("confirm s --top 1", "chosen"),
        ("promote s --top 1 --dry-run", "It is confirmed"),
        ("models", "champion"),
        ("models tiny-fnn", "champion -> 1"),
        (f"models {CHAMPION}", "# tiny-fnn, version 1"),
        (f"predict {CHAMPION} ../home/x.npy", "tiny-fnn/1"),
        (f"evaluate {CHAMPION}", "Test accuracy"),
        ("evaluate s:1", "Test accuracy"),
        (f"reproduce {CHAMPION}", "over 1 epochs"),
        ("sync", "s+confirm"),
        ("doctor", "Nothing is wrong."),
        ("data", "sealed"),
        ("spaces", "cnn-v1"),
        ("spaces fnn", "units_1"),
    ],
)
def test_a_command_works_from_another_folder_and_leaves_nothing_in_it(away, words, said):
    code, out = away(*words.split())
    assert code == 0, out
    assert said in out


def test_a_champion_is_known_from_another_folder(away):
    code, out = away("promote", "s", *AGAIN)
    assert (code, "Nothing to do" in out) == (1, True)


def test_a_rollback_works_from_another_folder(away, places):
    client = open_client(Settings(home=places[0]))
    first = client.get_model_version("tiny-fnn", "1")
    client.create_model_version("tiny-fnn", first.source, first.run_id, tags=first.tags)
    client.set_registered_model_alias("tiny-fnn", "champion", "2")
    client.set_registered_model_alias("tiny-fnn", "previous", "1")
    assert away("rollback", "tiny-fnn")[0] == 0
    assert client.get_model_version_by_alias("tiny-fnn", "champion").version == 1
    client.delete_registered_model_alias("tiny-fnn", "previous")
    client.delete_model_version("tiny-fnn", "2")


def test_exports_go_to_the_home_folder_and_their_path_is_printed(away, places):
    code, out = away("export", CHAMPION)
    file = places[0] / "exports" / "tiny-fnn-1.keras"
    assert (code, file.exists()) == (0, True)
    assert str(file) in out


def test_a_folder_that_is_given_to_export_is_one_from_where_it_is_typed(away, places):
    code, _ = away("export", CHAMPION, "--out", "../mine")
    assert code == 0
    assert (places[0].parent / "mine" / "tiny-fnn-1.keras").exists()


def test_the_server_is_started_from_another_folder(away, places, monkeypatch):
    started = []
    monkeypatch.setattr("os.execv", lambda _, words: started.append((words, os.environ["PATH"])))
    monkeypatch.setenv("PATH", "/nowhere")
    assert away("serve", CHAMPION)[0] == 0
    ((words, path),) = started
    folder = words[words.index("--model-uri") + 1]
    assert folder.startswith(str(places[0]))
    assert path.split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_the_pages_server_stands_in_the_home_folder(away, places, monkeypatch):
    stood = []
    monkeypatch.setattr(os, "execve", lambda *_: stood.append(Path.cwd()))
    code, out = away("ui")
    assert (code, stood) == (0, [places[0]])
    assert str(places[0]) in out


def test_every_artifact_of_mlflow_has_its_place_below_the_home_folder(places):
    client = open_client(Settings(home=places[0]))
    root = (places[0] / "mlruns").as_uri()
    assert all(each.artifact_location.startswith(root) for each in client.search_experiments())


def test_relative_addresses_name_the_same_databases_from_everywhere(
    tmp_path, small_file, monkeypatch, capsys
):
    import mnist_lab.sweep

    real = mnist_lab.sweep.launch
    monkeypatch.setenv("KERAS_BACKEND", "none")
    monkeypatch.setattr(
        mnist_lab.sweep, "launch",
        lambda config, settings, **o: real(config, settings, trainer="fakes:run_trial", **o),
    )  # fmt: skip
    monkeypatch.setenv("MNIST_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    monkeypatch.setenv("MNIST_LAB_STORAGE", "sqlite:///studies.db")
    sweep = ("sweep", "fnn", "--trials", 2, "--epochs", 1, "--dataset", small_file, "--study", "s")

    def type_in(folder, *words):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setattr(sys, "argv", ["mnist-lab", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            app_module.main()
        assert end.value.code in (0, None)
        assert left_in(tmp_path / folder) == []
        return capsys.readouterr().out

    type_in("one", *sweep, "--workers", 1)
    (study,) = json.loads(type_in("two", "studies", "--json"))
    assert (study["study"], study["complete"]) == ("s", 2)
    (row,) = json.loads(type_in("two", "sync", "--json"))
    assert (row["trials"], row["written"]) == (2, 0)
    of_sqlite = {"studies.db-wal", "studies.db-shm"}  # there while this process has it open
    assert {each.name for each in (tmp_path / "home").iterdir()} - of_sqlite == {
        ".mnist-lab", "mlruns", "reports", "runs.db", "studies.db",
    }  # fmt: skip
