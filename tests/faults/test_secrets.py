"""FAULTS 32 and 33: secrets and evil names."""

from __future__ import annotations

import subprocess

import pytest

from mnist_lab.config import SweepConfig
from mnist_lab.errors import MnistLabError, masked
from mnist_lab.settings import Settings
from mnist_lab.spaces import search_space  # noqa: F401 - the space file below imports it
from mnist_lab.sweep import launch

SECRET = "hunter2-token"


def everything_below(folder):
    for file in folder.rglob("*"):
        if file.is_file():
            yield file, file.read_bytes()


def test_no_secret_gets_into_a_database_an_artifact_or_a_log(
    config, settings, faults, monkeypatch, capfd
):
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    run = lambda *words: subprocess.run(["git", *words], cwd=settings.root, check=True)  # noqa: E731
    run("init", "-q")
    run("remote", "add", "origin", f"https://me:{SECRET}@git.example/repo.git")
    # A server that nobody listens at: everything that is said of it goes through our hands.
    address = f"http://me:{SECRET}@127.0.0.1:9"
    news = []
    remote = Settings(home=settings.root, tracking_uri_override=address)
    faults({"trial": 1, "epoch": 1, "what": "kill", "times": 2})
    result = launch(
        SweepConfig(**config), remote, trainer="fakes:run_trial",
        listener=lambda p: news.append(str(p.news)),
    )  # fmt: skip
    local = launch(SweepConfig(**{**config, "study": "local"}), settings, trainer="fakes:run_trial")
    assert result.lag.items
    assert local.finished == 4
    assert SECRET not in result.lag.why + "".join(news) + "".join(capfd.readouterr())
    found = [
        file
        for file, content in everything_below(settings.root)
        if SECRET.encode() in content and file.name != "config"  # git's own file
    ]
    assert found == []


def test_the_addresses_in_a_message_lose_their_passwords():
    said = masked("postgresql://me:p@ss@host:5432/db?user=u&password=pw and http://t@host/x, a@b")
    assert said == "postgresql://***@host:5432/db?user=***&password=*** and http://***@host/x, a@b"


@pytest.mark.parametrize(
    "name", ["../x", "a;rm -rf x", "x" * 600, "two\nlines", "ünï/cödé", "..", "-x", "a\x00b"]
)
def test_an_evil_study_name_is_refused_and_no_file_is_written(name, config, settings, faults):
    before = {file for file, _ in everything_below(settings.root.parent)}
    with pytest.raises(MnistLabError, match="cannot name a study"):
        launch(SweepConfig(**{**config, "study": name}), settings, trainer="fakes:run_trial")
    assert {file for file, _ in everything_below(settings.root.parent)} == before


@pytest.mark.parametrize("name", ["a;rm -rf x.npz", "ünïcödé.npz", "two\nlines.npz", "..npz"])
def test_a_data_set_with_an_evil_name_writes_nothing_outside_home(
    name, config, settings, faults, small_file, tmp_path
):
    evil = tmp_path / "data" / name
    evil.parent.mkdir()
    evil.write_bytes(small_file.read_bytes())
    before = {file for file, _ in everything_below(tmp_path) if settings.root not in file.parents}
    try:
        launch(
            SweepConfig(**{**config, "dataset": str(evil), "trials": 1}),
            settings,
            trainer="fakes:run_trial",
        )
    except MnistLabError as error:
        assert error.exit_code in (64, 66)  # noqa: PT017
    after = {file for file, _ in everything_below(tmp_path) if settings.root not in file.parents}
    assert after == before
