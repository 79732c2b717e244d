"""MLflow's model folder, made of a ``.keras`` file without importing Keras.

Its ``keras`` flavour has the layout that ``mlflow.keras.save_model`` (3.17) writes and
``mlflow.keras.load_model`` reads; a test loads the result with the latter in a plain process. Its
``python_function`` is ``mnist_lab.models.scoring``, which takes pictures and checks pixels. There is no
signature: MLflow would cast inputs to its dtype, which makes black images of pixels divided by 255.
Requirements are named, not inferred: inferring them imports TensorFlow in a subprocess, 15 s a model.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from mlflow import pyfunc
from mlflow.models import Model

from mnist_lab.data import ImageForm

KERAS_FILE = Path("data") / "model.keras"
IMAGES_FILE = KERAS_FILE.with_name("images.json")
# A name, because the room of models stands above this one; MLflow imports it where the model is used.
LOADER = "mnist_lab.models.scoring"
# mnist-lab is not among them: a package of that name on an index would be another author's.
REQUIREMENTS = ("keras", "tensorflow", "numpy", "mlflow")


def package_model(
    keras_file: Path, folder: Path, images: ImageForm, *, model_id: str = "", run: str = ""
) -> None:
    """Write ``folder`` as an MLflow model of flavours ``keras`` and ``python_function``."""
    target = folder / KERAS_FILE
    target.parent.mkdir(parents=True)
    shutil.copyfile(keras_file, target)
    (folder / IMAGES_FILE).write_text(json.dumps(asdict(images)))
    (target.parent / "keras_module.txt").write_text("keras")
    (folder / "requirements.txt").write_text(
        "".join(f"{name}=={version(name)}\n" for name in REQUIREMENTS)
    )
    model = Model(run_id=run or None, model_id=model_id or None)
    model.add_flavor(
        "keras",
        data="data",
        keras_version=version("keras"),
        keras_backend="tensorflow",
        save_exported_model=False,
    )
    pyfunc.add_to_model(model, loader_module=LOADER, data=str(KERAS_FILE.parent))
    model.model_size_bytes = target.stat().st_size
    model.save(str(folder / "MLmodel"))
