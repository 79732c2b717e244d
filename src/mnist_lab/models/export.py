"""``export``: a registered model in other programs' formats, each read back and compared.

========================= =================================== ================= ==================
format                    what is written                     read back with    needed to read it
========================= =================================== ================= ==================
``keras``                 ``NAME.keras``                      Keras, safe mode  Keras, TensorFlow
``h5``                    ``NAME.h5``, the notebook's         Keras             Keras, TensorFlow
``json+weights``          ``NAME.json``, ``NAME.weights.h5``  Keras             Keras, TensorFlow
``saved_model``           a folder ``NAME``                   TensorFlow        TensorFlow
``onnx``                  ``NAME.onnx``                       onnxruntime       an ONNX runtime
========================= =================================== ================= ==================

``onnx`` is written with ``mnist-lab[onnx]``. Keras reads its own files of older versions, not those of
newer ones: what 3.15 writes is read by none of 3.5, 3.10 and 3.12.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from mnist_lab.errors import (
    ConfigurationError,
    DataError,
    MissingExtraError,
    UnknownNameError,
    first_line,
)
from mnist_lab.models.versions import load_version
from mnist_lab.settings import Settings
from mnist_lab.training import without_optimizer

if TYPE_CHECKING:
    import keras

Probabilities = NDArray[np.float32]
# A float32 softmax computed in another order differs by a few units in the last place.
TOLERANCE = 1e-4
PROBES = 64  # noise images: every layer is exercised, and no image of a data set is needed
UNTOUCHED = "The registered model is untouched, and nothing was left behind."


@dataclass(frozen=True, kw_only=True)
class Export:
    """The files of an export, and the largest ``difference`` of a probability after reading back.

    ``needs`` are the packages that read them, as pip takes them (``keras>=3.15.1``).
    """

    model: str
    format: str
    files: tuple[Path, ...]
    difference: float
    needs: tuple[str, ...] = ()


def export(
    client: MlflowClient, reference: str, kind: str, folder: Path, settings: Settings
) -> Export:
    """Write ``MODEL@ALIAS`` into ``folder`` in a format of ``FORMATS``, and check it.

    It is written and read back in a folder of its own, and moved when it is known to be right.

    Raises:
        UnknownNameError: no such format or version.
        MissingExtraError: the format needs a package that is not installed.
        ConfigurationError: ``folder`` cannot be written.
        DataError: the format cannot hold the model, or does not predict the same.
    """
    if kind not in FORMATS:
        raise UnknownNameError("format", kind, FORMATS)
    if kind == "onnx" and not all(map(importlib.util.find_spec, ("tf2onnx", "onnxruntime"))):
        raise MissingExtraError("The format 'onnx'", "tf2onnx", "onnx")
    version, _, network = load_version(client, reference, settings)
    stem = f"{version.name}-{version.version}"
    try:
        made = _make_folder(folder)
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as scratch:
                files, difference = _write(network, kind, Path(scratch) / stem, reference)
                moved = tuple(_move(file, folder) for file in files)
        finally:
            for each in made:
                with suppress(OSError):  # not empty: the files are in it
                    each.rmdir()
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror or first_line(error)}.",
            safe=UNTOUCHED,
            next_step="Give a folder that can be written, with room in it: --out FOLDER",
        ) from error
    return Export(
        model=f"{version.name}/{version.version}",
        format=kind,
        files=moved,
        difference=difference,
        needs=(*(f"{name}>={installed(name)}" for name in NEEDS[kind]), *_classes(network, kind)),
    )


def _classes(network: keras.Model, kind: str) -> list[str]:
    """The author's own classes that a reader of the file must have, by name."""
    if kind not in ("keras", "h5", "json+weights"):
        return []
    kinds = {type(layer) for layer in network._flatten_layers()}
    own = sorted(each.__name__ for each in kinds if not each.__module__.startswith("keras."))
    return [f"the class {name} of its space's file" for name in own]


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder; return those that were not there, innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _write(
    network: keras.Model, kind: str, path: Path, reference: str
) -> tuple[Sequence[Path], float]:
    """Write a model, read it back, and return its files and by how much it predicts otherwise."""
    random = np.random.default_rng(0)
    probes = random.integers(0, 256, size=(PROBES, *network.input_shape[1:])).astype(np.uint8)
    advice = "Try another --format: saved_model holds the most models."
    try:
        expected = network.predict(probes, verbose=0)
        files, read_back = FORMATS[kind](network, path, probes)
        difference = float(np.abs(read_back - expected).max())
    except OSError:
        raise
    except Exception as error:  # whatever Keras, TensorFlow, tf2onnx or a runtime raises
        why = first_line(error)
        if isinstance(error, NotImplementedError) and "get_config" in str(error):
            why = "a class in it has no get_config"
            advice = f"Add get_config to your class and sweep again. {advice}"
        raise DataError(
            f"{reference} cannot be written as {kind} and read back ({why}).",
            safe=UNTOUCHED,
            next_step=advice,
        ) from error
    if not difference <= TOLERANCE:
        raise DataError(
            f"{reference} as {kind} does not predict the same: probabilities differ by "
            f"{difference:.2g}.",
            safe=UNTOUCHED,
            next_step=advice,
        )
    return files, difference


def _move(file: Path, folder: Path) -> Path:
    """Move an exported file into ``folder``, over that of an earlier export."""
    target = folder / file.name
    if target.is_dir():
        shutil.rmtree(target)
    return file.replace(target)


def _as_keras(network: keras.Model, path: Path, probes: Any) -> tuple[list[Path], Probabilities]:
    import keras

    file = path.with_name(f"{path.name}.keras")
    with without_optimizer(network):
        network.save(file)
    return [file], keras.saving.load_model(file, compile=False).predict(probes, verbose=0)


def _as_h5(network: keras.Model, path: Path, probes: Any) -> tuple[list[Path], Probabilities]:
    from keras.src.legacy.saving import legacy_h5_format

    file = path.with_name(f"{path.name}.h5")
    if any(map(_is_replaced, network._flatten_layers())):
        network = _copy(network, _without_normalization)
    # What ``model.save("x.h5")`` calls, without its advice to use another format.
    legacy_h5_format.save_model_to_hdf5(network, str(file), include_optimizer=False)
    loaded = legacy_h5_format.load_model_from_hdf5(str(file), compile=False)
    return [file], loaded.predict(probes, verbose=0)


def _as_json(network: keras.Model, path: Path, probes: Any) -> tuple[list[Path], Probabilities]:
    import keras

    file = path.with_name(f"{path.name}.json")
    weights = path.with_name(f"{path.name}.weights.h5")
    file.write_text(network.to_json())
    with without_optimizer(network):
        network.save_weights(weights)
    loaded = keras.models.model_from_json(file.read_text())
    loaded.load_weights(weights)
    return [file, weights], loaded.predict(probes, verbose=0)


def _as_saved_model(
    network: keras.Model, path: Path, probes: Any
) -> tuple[list[Path], Probabilities]:
    import keras

    network.export(
        str(path), format="tf_saved_model", input_signature=_signature(network), verbose=False
    )
    layer = keras.layers.TFSMLayer(str(path), call_endpoint="serve")
    return [path], keras.ops.convert_to_numpy(layer(probes))


def _as_onnx(network: keras.Model, path: Path, probes: Any) -> tuple[list[Path], Probabilities]:
    import onnxruntime

    file = path.with_name(f"{path.name}.onnx")
    network = _copy(network, _for_onnx)
    with warnings.catch_warnings():  # of a name that Keras asks NumPy for
        warnings.simplefilter("ignore", FutureWarning)
        network.export(str(file), format="onnx", input_signature=_signature(network), verbose=False)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return [file], session.run(None, {entry.name: probes})[0]


def _signature(network: keras.Model) -> list[keras.InputSpec]:
    """Pixels as they are; a loaded model would be exported for float32 only."""
    import keras

    return [keras.InputSpec(dtype="uint8", shape=network.input_shape, name="pixels")]


def _copy(network: keras.Model, replace: Callable[[Any], Any]) -> keras.Model:
    """The same function, with some layers replaced, also in nested models; the others are shared."""
    import keras

    def copy_layer(layer: Any) -> Any:
        return _copy(layer, replace) if _is_nested(layer) else replace(layer)

    copied = keras.models.clone_model(network, clone_function=copy_layer)
    # One tensor in, not a list of one.
    return keras.Model(copied.inputs[0], copied.outputs[0], name=network.name)


def _is_nested(layer: Any) -> bool:
    """Whether a layer is a model of Keras's own classes, of one tensor in and one out."""
    import keras

    is_own = isinstance(layer, keras.Model) and type(layer).__module__.startswith("keras.")
    return is_own and len(layer.inputs) == len(layer.outputs) == 1


def _is_replaced(layer: Any) -> bool:
    """A ``Normalization`` by one mean and variance: a ``Rescaling`` by another name.

    As weights they would be inputs of an ONNX graph; of ``h5`` Keras reads them as those of an axis.
    """
    import keras

    return isinstance(layer, keras.layers.Normalization) and not layer.axis


def _without_normalization(layer: Any) -> Any:
    return _as_rescaling(layer) if _is_replaced(layer) else layer


def _for_onnx(layer: Any) -> Any:
    """A layer that tf2onnx 1.17 writes as ONNX has it.

    Exact GELU, which TensorFlow computes with ``erfc``, becomes x (1 + erf(x / sqrt 2)) / 2.
    """
    import keras

    def gelu(x: Any) -> Any:
        return x * 0.5 * (1.0 + keras.ops.erf(x * 0.5**0.5))

    if isinstance(layer, keras.layers.Activation) and layer.activation.__name__ == "gelu":
        return keras.layers.Activation(gelu, name=layer.name)
    return _without_normalization(layer)


def _as_rescaling(layer: Any) -> Any:
    import keras

    mean, variance = (keras.ops.convert_to_numpy(each) for each in (layer.mean, layer.variance))
    deviation = float(np.maximum(np.sqrt(variance.item()), keras.config.epsilon()))
    return keras.layers.Rescaling(1 / deviation, -mean.item() / deviation, name=layer.name)


Writer = Callable[["keras.Model", Path, Any], tuple[list[Path], Probabilities]]
FORMATS: Mapping[str, Writer] = {
    "keras": _as_keras,
    "h5": _as_h5,
    "json+weights": _as_json,
    "saved_model": _as_saved_model,
    "onnx": _as_onnx,
}
NEEDS: Mapping[str, Sequence[str]] = {
    "keras": ("keras", "tensorflow"),
    "h5": ("keras", "tensorflow"),
    "json+weights": ("keras", "tensorflow"),
    "saved_model": ("tensorflow",),
    "onnx": ("onnxruntime",),
}
