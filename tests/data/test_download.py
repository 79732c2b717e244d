from __future__ import annotations

import sys
from types import ModuleType

import numpy as np

from mnist_lab.data.download import download


def test_a_download_is_written_with_keras_four_keys(tmp_path, monkeypatch):
    module = ModuleType("keras.datasets.letters")
    train = (np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8))
    test = (np.ones((2, 28, 28), np.uint8), np.ones(2, np.uint8))
    module.load_data = lambda: (train, test)  # what keras.datasets modules offer
    monkeypatch.setitem(sys.modules, "keras.datasets.letters", module)
    download("letters", tmp_path / "letters.npz")
    with np.load(tmp_path / "letters.npz") as kept:
        assert sorted(kept.files) == ["x_test", "x_train", "y_test", "y_train"]
        assert len(kept["x_test"]) == 2
    assert not list(tmp_path.glob("*.part*"))
