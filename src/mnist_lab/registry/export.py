"""``export``: a registered model in other programs' formats, each read back and compared.

========================= ============================================ ================================
format                    what is written                              read back with
========================= ============================================ ================================
``keras``                 ``NAME.keras``                               Keras, safe mode
``h5``                    ``NAME.h5``, the notebook's                  Keras
``json+weights``          ``NAME.json``, ``NAME.weights.h5``, likewise Keras
``saved_model``           a folder ``NAME``                            TensorFlow, through a Keras layer
``onnx``                  ``NAME.onnx`` (needs ``mnist-lab[onnx]``)    onnxruntime
========================= ============================================ ================================
"""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from mnist_lab.data import IMAGE_SHAPE
from mnist_lab.errors import DataError, MissingExtraError, UnknownNameError
from mnist_lab.registry.models import load_version

if TYPE_CHECKING:
    import keras

Probabilities = NDArray[np.float32]
# A float32 softmax computed in another order differs by a few units in the last place.
TOLERANCE = 1e-4
PROBES = 64  # noise images: every layer is exercised, and no image of a data set is needed


@dataclass(frozen=True, kw_only=True)
class Export:
    """``files`` were written; ``difference`` is the largest of any probability after reading back."""

    model: str
    format: str
    files: tuple[Path, ...]
    difference: float


def export(client: MlflowClient, reference: str, kind: str, folder: Path) -> Export:
    """Write ``MODEL@ALIAS`` into ``folder`` in a format of ``FORMATS``, and check it.

    Raises:
        UnknownNameError: no such format or version.
        MissingExtraError: the format needs a package that is not installed.
        DataError: what was written does not predict the same; it is deleted.
    """
    if kind not in FORMATS:
        raise UnknownNameError("format", kind, FORMATS)
    if kind == "onnx" and not all(map(importlib.util.find_spec, ("tf2onnx", "onnxruntime"))):
        raise MissingExtraError("The format 'onnx'", "tf2onnx", "onnx")
    version, network = load_version(client, reference)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    probes = random.integers(0, 256, size=(PROBES, *IMAGE_SHAPE)).astype(np.uint8)
    expected = network.predict(probes, verbose=0)
    files, read_back = FORMATS[kind](network, folder / f"{version.name}-{version.version}", probes)
    difference = float(np.abs(read_back - expected).max())
    if not difference <= TOLERANCE:
        for file in files:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        raise DataError(
            f"{reference} as {kind} does not predict the same: probabilities differ by "
            f"{difference:.2g}.",
            safe="The registered model is untouched.",
            next_step="What was written is deleted. Try another --format.",
        )
    name = f"{version.name}/{version.version}"
    return Export(model=name, format=kind, files=tuple(files), difference=difference)


def _as_keras(network: keras.Model, path: Path, probes: Any) -> tuple[list[Path], Probabilities]:
    import keras

    file = path.with_name(f"{path.name}.keras")
    network.save(file)
    return [file], keras.saving.load_model(file, compile=False).predict(probes, verbose=0)


def _as_h5(network: keras.Model, path: Path, probes: Any) -> tuple[list[Path], Probabilities]:
    from keras.src.legacy.saving import legacy_h5_format

    file = path.with_name(f"{path.name}.h5")
    # What ``model.save("x.h5")`` calls, without its advice to use another format.
    legacy_h5_format.save_model_to_hdf5(network, str(file), include_optimizer=False)
    loaded = legacy_h5_format.load_model_from_hdf5(str(file), compile=False)
    return [file], loaded.predict(probes, verbose=0)


def _as_json(network: keras.Model, path: Path, probes: Any) -> tuple[list[Path], Probabilities]:
    import keras

    file = path.with_name(f"{path.name}.json")
    weights = path.with_name(f"{path.name}.weights.h5")
    file.write_text(network.to_json())
    network.save_weights(weights)
    loaded = keras.models.model_from_json(file.read_text())
    loaded.load_weights(weights)
    return [file, weights], loaded.predict(probes, verbose=0)


def _as_saved_model(
    network: keras.Model, path: Path, probes: Any
) -> tuple[list[Path], Probabilities]:
    import keras

    network.export(str(path), format="tf_saved_model", input_signature=_signature(), verbose=False)
    layer = keras.layers.TFSMLayer(str(path), call_endpoint="serve")
    return [path], keras.ops.convert_to_numpy(layer(probes))


def _as_onnx(network: keras.Model, path: Path, probes: Any) -> tuple[list[Path], Probabilities]:
    import onnxruntime

    file = path.with_name(f"{path.name}.onnx")
    network = _for_onnx(network)
    with warnings.catch_warnings():  # of a name that Keras asks NumPy for
        warnings.simplefilter("ignore", FutureWarning)
        network.export(str(file), format="onnx", input_signature=_signature(), verbose=False)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return [file], session.run(None, {entry.name: probes})[0]


def _signature() -> list[keras.InputSpec]:
    """Pixels as they are; a loaded model would be exported for float32 only."""
    import keras

    return [keras.InputSpec(dtype="uint8", shape=(None, *IMAGE_SHAPE), name="pixels")]


def _for_onnx(network: keras.Model) -> keras.Model:
    """The same function without what tf2onnx 1.17 does not write as ONNX has it.

    Exact GELU, which TensorFlow computes with ``erfc``, becomes x (1 + erf(x / sqrt 2)) / 2. A
    ``Normalization`` by one mean and variance, which would be inputs of the graph, is a ``Rescaling``.
    """
    import keras

    def gelu(x: Any) -> Any:
        return x * 0.5 * (1.0 + keras.ops.erf(x * 0.5**0.5))

    def clone(layer: Any) -> Any:
        if isinstance(layer, keras.layers.Activation) and layer.activation.__name__ == "gelu":
            return keras.layers.Activation(gelu, name=layer.name)
        if isinstance(layer, keras.layers.Normalization):
            return _as_rescaling(layer)
        return layer.__class__.from_config(layer.get_config())

    copied = keras.models.clone_model(network, clone_function=clone)
    copied.set_weights([w for layer in network.layers for w in _weights(layer)])
    return keras.Model(copied.inputs[0], copied.outputs[0])  # one tensor in, not a list of one


def _as_rescaling(layer: Any) -> Any:
    import keras

    mean, variance = (keras.ops.convert_to_numpy(each) for each in (layer.mean, layer.variance))
    deviation = float(np.maximum(np.sqrt(variance.item()), keras.config.epsilon()))
    return keras.layers.Rescaling(1 / deviation, -mean.item() / deviation, name=layer.name)


def _weights(layer: Any) -> list[Any]:
    import keras

    return [] if isinstance(layer, keras.layers.Normalization) else layer.get_weights()


Writer = Callable[["keras.Model", Path, Any], tuple[list[Path], Probabilities]]
FORMATS: Mapping[str, Writer] = {
    "keras": _as_keras,
    "h5": _as_h5,
    "json+weights": _as_json,
    "saved_model": _as_saved_model,
    "onnx": _as_onnx,
}
