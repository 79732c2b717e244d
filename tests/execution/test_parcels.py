"""Files that travel with messages. FAULTS R9: what comes from another machine stays in its folder."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_lab.execution.parcels import (
    RefusedParcel,
    checkpoints_in,
    pack_checkpoints,
    pack_results,
    unpack,
    unpack_sources,
)
from mnist_lab.training import Checkpoint, Checkpoints


def save(folder, *epochs):
    checkpoints = Checkpoints(folder / "checkpoints", "me")
    for epoch in epochs:
        state = {"epoch": epoch}
        checkpoints.save(Checkpoint(epoch=epoch, arrays={"a": np.arange(epoch)}, state=state))


def test_a_checkpoint_arrives_whole_and_only_once(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    save(there, 1, 2)
    first = pack_checkpoints(there)
    unpack(first, here)
    assert Checkpoints(here / "checkpoints", "me").load().state == {"epoch": 2}
    save(there, 3)
    second = pack_checkpoints(there, without=checkpoints_in(first))
    assert set(checkpoints_in(second)) == {"epoch-0003"}
    unpack(second, here)
    assert Checkpoints(here / "checkpoints", "me").load().state == {"epoch": 3}
    assert sorted(each.name for each in (here / "checkpoints").iterdir()) == [
        "epoch-0002",
        "epoch-0003",
    ]


def test_results_arrive_as_they_were_left(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    (there / "artifacts" / "evaluation").mkdir(parents=True)
    (there / "artifacts" / "evaluation" / "report.json").write_text("{}")
    (there / "model.keras").write_bytes(b"keras")
    (there / "predictions.npz").write_bytes(b"npz")
    (there / "notes.txt").write_text("the trainer's own")
    unpack(pack_results(there), here)
    files = {each.relative_to(here).as_posix() for each in here.rglob("*") if each.is_file()}
    assert files == {"artifacts/evaluation/report.json", "model.keras", "predictions.npz"}


@pytest.mark.parametrize(
    "name",
    [
        "../model.keras",
        "artifacts/../../x",
        "/etc/passwd",
        "checkpoints/epoch-0001/../../../x",
        "checkpoints/other/a",
        "checkpoints/epoch-0001/deeper/a",
        "study-id",
        "artifacts",
        "artifacts\\..\\x",
        "",
        "model.keras\0",
    ],
)
def test_a_file_that_is_none_of_a_trials_is_refused(name, tmp_path):
    folder = tmp_path / "trial"
    with pytest.raises(RefusedParcel):
        unpack({name: b"x"}, folder)
    assert list(tmp_path.rglob("*")) == []


def test_nothing_of_a_parcel_is_written_if_one_name_is_refused(tmp_path):
    with pytest.raises(RefusedParcel):
        unpack({"model.keras": b"x", "../y": b"y"}, tmp_path / "trial")
    assert list(tmp_path.rglob("*")) == []


def test_sources_stay_in_their_folder(tmp_path):
    unpack_sources({"mine.py": b"x = 1", "inner/helper.py": b""}, tmp_path / "space")
    assert (tmp_path / "space" / "inner" / "helper.py").exists()
    with pytest.raises(RefusedParcel):
        unpack_sources({"../mine.py": b""}, tmp_path / "space")


def test_an_epoch_that_is_trained_anew_replaces_what_is_left_of_it_and_of_later_ones(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    save(here, 4, 5)
    (here / "checkpoints" / "epoch-0005" / "state.json").write_text("damaged")
    known = checkpoints_in(pack_checkpoints(here))
    save(there, 4, 5)
    sent = pack_checkpoints(there, without=known)
    assert set(checkpoints_in(sent)) == {"epoch-0005"}
    unpack(sent, here)
    assert Checkpoints(here / "checkpoints", "me").load().state == {"epoch": 5}
    save(tmp_path / "anew", 1)
    unpack(pack_checkpoints(tmp_path / "anew"), here)
    assert [each.name for each in (here / "checkpoints").iterdir()] == ["epoch-0001"]
