"""Writing a trained model as a ``.keras`` file, without its optimizer."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# The class in ``config.json`` for a model that only its own code can build.
REBUILT = "RebuiltBySpace"


def save_model(model: keras.Model, file: Path) -> None:
    """Save ``model`` without its optimizer, for predicting.

    The optimizer's state is two thirds of a file, and no use. A model that Keras cannot
    describe (a class without ``get_config``) is saved as its weights alone, in the same archive: its
    space builds it again.

    Raises:
        OSError: the file cannot be written.
    """
    import keras

    try:
        with without_optimizer(model):
            if type(model).__module__.startswith("keras."):
                keras.Model(model.inputs, model.outputs, name=model.name).save(file)
            else:
                model.save(file)
    except OSError:
        raise
    except Exception:  # a class that says in some way that it cannot be described
        file.unlink(missing_ok=True)
        with without_optimizer(model):
            _save_weights(model, file)


@contextmanager
def without_optimizer(model: keras.Model) -> Iterator[None]:
    """Leave the optimizers of ``model`` and of the models in it out of a save or a load."""
    import keras

    models = [each for each in model._flatten_layers() if isinstance(each, keras.Model)]
    compiled = [(each, each.optimizer) for each in models if each.compiled]
    for each, _ in compiled:
        each.compiled, each.optimizer = False, None
    try:
        yield
    finally:
        for each, optimizer in compiled:
            each.compiled, each.optimizer = True, optimizer


def _save_weights(model: keras.Model, file: Path) -> None:
    import keras

    about = {"module": "mnist_lab", "class_name": REBUILT, "config": {}}
    metadata = {"keras_version": keras.__version__, "date_saved": ""}
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        weights = Path(folder) / "model.weights.h5"
        model.save_weights(weights)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("metadata.json", json.dumps(metadata))
            archive.writestr("config.json", json.dumps(about))
            archive.write(weights, "model.weights.h5")
