"""MLflow's model folder, made of a ``.keras`` file without importing Keras.

The layout is what ``mlflow.keras.save_model`` (3.17) writes and ``mlflow.keras.load_model`` reads; a
test loads the result with the latter in a plain process. Requirements are named, not inferred:
inferring them imports TensorFlow in a subprocess, 15 s a model.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import Schema, TensorSpec

from mnist_lab.data import ImageForm

KERAS_FILE = Path("data") / "model.keras"
REQUIREMENTS = ("keras", "tensorflow", "numpy", "mlflow")


def signature(images: ImageForm) -> ModelSignature:
    """Return the signature of a model: pixels ``(N, *shape) uint8`` in, probabilities out."""
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *images.shape), "pixels")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, images.classes), "probabilities")]),
    )


def package_model(
    keras_file: Path, folder: Path, model_id: str, run: str, images: ImageForm
) -> None:
    """Write ``folder`` as an MLflow model of flavours ``keras`` and ``python_function``."""
    target = folder / KERAS_FILE
    target.parent.mkdir(parents=True)
    shutil.copyfile(keras_file, target)
    (target.parent / "keras_module.txt").write_text("keras")
    (folder / "requirements.txt").write_text(
        "".join(f"{name}=={version(name)}\n" for name in REQUIREMENTS)
    )
    model = Model(run_id=run, model_id=model_id, signature=signature(images))
    model.add_flavor(
        "keras",
        data="data",
        keras_version=version("keras"),
        keras_backend="tensorflow",
        save_exported_model=False,
    )
    pyfunc.add_to_model(model, loader_module="mlflow.keras")
    model.model_size_bytes = target.stat().st_size
    model.save(str(folder / "MLmodel"))
