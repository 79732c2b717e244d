from __future__ import annotations

import errno
import json
import shutil

import numpy as np
import pytest

from mnist_lab.training import Checkpoint, Checkpoints
from mnist_lab.training.checkpoints import Damaged, read_checkpoint


def checkpoint(epoch):
    arrays = {"model/0": np.arange(epoch + 3.0), "model/1": np.eye(2, dtype=np.float32) * epoch}
    return Checkpoint(epoch=epoch, arrays=arrays, state={"epochs": list(range(epoch))})


@pytest.fixture
def kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", "me")
    for epoch in (1, 2, 3):
        checkpoints.save(checkpoint(epoch))
    return checkpoints


@pytest.fixture
def folder(tmp_path, kept):
    return tmp_path / "checkpoints"


def test_a_checkpoint_comes_back_as_it_was_written(kept):
    found = kept.load()
    assert (found.epoch, found.state) == (3, {"epochs": [0, 1, 2]})
    for name, array in checkpoint(3).arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert np.array_equal(found.arrays[name], array)


def test_the_last_two_are_kept(kept, folder):
    assert sorted(each.name for each in folder.iterdir()) == ["epoch-0002", "epoch-0003"]


def test_without_any_there_is_none(tmp_path):
    assert Checkpoints(tmp_path / "nothing", "me").load() is None


@pytest.mark.parametrize("name", ["arrays.npz", "state.json", "manifest.json"])
@pytest.mark.parametrize("how", ["cut", "flipped", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(kept, folder, name, how):
    damage(folder / "epoch-0003" / name, how)
    assert kept.load().epoch == 2


def test_when_both_are_damaged_training_begins_anew(kept, folder):
    damage(folder / "epoch-0003" / "arrays.npz", "cut")
    damage(folder / "epoch-0002" / "manifest.json", "cut")
    assert kept.load() is None


def test_a_checkpoint_of_another_training_is_not_loaded(kept, folder):
    assert Checkpoints(folder, "somebody else").load() is None


def test_a_damaged_checkpoint_is_replaced_when_its_epoch_is_trained_again(kept, folder):
    damage(folder / "epoch-0003" / "arrays.npz", "cut")
    kept.save(checkpoint(3))
    assert kept.load().epoch == 3


def test_a_disk_that_is_full_leaves_the_old_ones_whole(kept, folder, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        kept.save(checkpoint(4))
    assert kept.load().epoch == 3
    assert sorted(each.name for each in folder.iterdir()) == ["epoch-0002", "epoch-0003"]


def test_a_checkpoint_that_was_cut_off_while_it_was_written_is_not_one(kept, folder):
    half = folder / ".writing-abc"
    shutil.copytree(folder / "epoch-0003", half)
    assert kept.load().epoch == 3
    with pytest.raises(Damaged):
        read_checkpoint(folder / "epoch-0009")


def test_after_a_new_beginning_new_checkpoints_are_kept_and_refused_ones_are_not(kept, folder):
    for name in ("epoch-0002", "epoch-0003"):
        damage(folder / name / "arrays.npz", "cut")
    (folder / ".writing-left").mkdir()
    for epoch in (1, 2):
        kept.save(checkpoint(epoch))
        assert kept.load().epoch == epoch
    assert sorted(each.name for each in folder.iterdir()) == ["epoch-0001", "epoch-0002"]


def test_arrays_that_would_have_to_be_unpickled_are_refused(kept, folder):
    np.savez(folder / "epoch-0003" / "arrays.npz", evil=np.array([object()], dtype=object))
    manifest = folder / "epoch-0003" / "manifest.json"
    told = json.loads(manifest.read_text())
    import hashlib

    content = (folder / "epoch-0003" / "arrays.npz").read_bytes()
    told["files"]["arrays.npz"] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(told))
    with pytest.raises(Damaged, match="allow_pickle"):
        read_checkpoint(folder / "epoch-0003")


def damage(file, how):
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
