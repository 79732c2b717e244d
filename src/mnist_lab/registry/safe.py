"""Loading a model file without running what is in it: the only place that calls Keras's loader.

A model file is code until proven otherwise (DESIGN D8). Before Keras sees it, what it is made of is
checked, from the outside in: size and sha256, the members of the archive, every object and every size
that ``config.json`` names, every link and data set of the weights. What is not known to be harmless is
refused; then it is loaded with ``safe_mode``. The known attacks, and where each ends:

========================================================== ==========================================
``.h5``, pickle, a foreign pyfunc (its loader runs code)     not a ``.keras`` archive
a zip bomb, a path that leaves the archive, extra files      ``_check_members``
``Lambda``, ``TFSMLayer``, any class from another module     ``_check_objects``: a list of what may be
a layer's name with ``/`` or ``..`` (becomes a path)         ``_check_names``
layers of a thousand million units                           ``_check_sizes``
HDF5 links to other files, external and virtual data         ``_check_weights``
========================================================== ==========================================
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lab.errors import DataError

if TYPE_CHECKING:
    import h5py
    import keras

# The largest model of the built-in spaces takes 6 MB; nothing for 28x28 images needs more than this.
LARGEST_FILE = 200 * 2**20
LARGEST_CONFIG = 2 * 2**20
MOST_PARAMETERS = 1_000_000_000  # 4 GB
MEMBERS = frozenset({"metadata.json", "config.json", "model.weights.h5"})
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}")

# Layers that only compute, and the objects that they are configured with.
LAYERS = frozenset({
    "Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D",
    "Dense", "DepthwiseConv2D", "Dropout", "ELU", "Flatten", "Functional", "GaussianDropout",
    "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "InputLayer",
    "LayerNormalization", "LeakyReLU", "Maximum", "MaxPooling2D", "Multiply", "Normalization",
    "PReLU", "Permute", "ReLU", "Rescaling", "Reshape", "SeparableConv2D", "Sequential", "Softmax",
    "SpatialDropout2D", "Subtract", "UnitNormalization",
})  # fmt: skip
OTHERS = frozenset({"DTypePolicy", "SeedGenerator", "__keras_tensor__", "__tuple__"})
# By module: whatever is in these is an initializer, a regularizer or a constraint, and pure.
PURE_MODULES = frozenset({"keras.initializers", "keras.regularizers", "keras.constraints"})
LAYER_MODULES = re.compile(r"keras(\.layers|\.src\.models\.\w+|\.models|\.random)?")
# Numbers under these keys are sizes that memory is taken for.
_SIZES = frozenset({"units", "filters", "kernel_size", "pool_size", "strides", "target_shape",
                    "batch_shape", "input_shape", "shape", "depth_multiplier"})  # fmt: skip
_LARGEST_SIZE = 65_536
_LARGEST_ARRAY = 10_000_000  # numbers in one input of a layer, for one image


def load_model(file: Path, sha256: str) -> keras.Model:
    """Load a ``.keras`` file whose digest is ``sha256``; not compiled, for predicting.

    Raises:
        DataError: the file is not what was registered, or holds what is not on the list.
    """
    check_file(file, sha256)
    import keras

    return keras.saving.load_model(file, compile=False, safe_mode=True)


def check_file(file: Path, sha256: str) -> None:
    """Every check of ``load_model``, without loading.

    Raises:
        DataError: as ``load_model``.
    """
    if not file.is_file() or file.is_symlink():
        raise _refused(file, "there is no such file")
    if file.stat().st_size > LARGEST_FILE:
        raise _refused(file, f"it is larger than {LARGEST_FILE:,} bytes")
    content = file.read_bytes()
    if file.suffix != ".keras" or not zipfile.is_zipfile(io.BytesIO(content)):
        raise _refused(file, "it is no .keras archive (.h5, pickle and pyfunc can run code)")
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise _refused(
            file, f"it is damaged or exchanged: sha256 {found[:12]}…, expected {sha256[:12]}…"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_members(file, archive)
            config = json.loads(archive.read("config.json"))
            objects = list(_objects(config))
            weights = archive.read("model.weights.h5")
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _refused(file, f"it cannot be read ({error})") from error
    kind = config.get("class_name") if isinstance(config, dict) else None
    if kind not in ("Functional", "Sequential"):
        raise _refused(file, "it is no Functional or Sequential model")
    _check_objects(file, objects)
    _check_names(file, objects)
    _check_sizes(file, objects)
    _check_weights(file, weights)


def _check_members(file: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = sorted(member.filename for member in members)
    if names != sorted(MEMBERS):
        raise _refused(file, f"it holds {', '.join(names)[:200]}, not {', '.join(sorted(MEMBERS))}")
    for member in members:
        most = LARGEST_FILE if member.filename.endswith(".h5") else LARGEST_CONFIG
        if member.file_size > most:
            raise _refused(file, f"{member.filename} unpacks to {member.file_size:,} bytes")


def _objects(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Every JSON object in ``value``, outermost first."""
    if depth > 100:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _objects(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each, depth + 1)


def _check_objects(file: Path, objects: Sequence[dict[str, Any]]) -> None:
    """Every object that Keras would make is on the list, and comes from Keras."""
    for each in objects:
        if "class_name" not in each:
            if "module" in each or "registered_name" in each:
                raise _refused(file, f"it names a module without a class: {each.get('module')}")
            continue
        name, module = each["class_name"], each.get("module")
        harmless = (
            (name in LAYERS and isinstance(module, str) and LAYER_MODULES.fullmatch(module))
            or (name in OTHERS and module in (None, "keras", "keras.random"))
            or (module in PURE_MODULES)
            or (module == "keras.src.random.seed_generator" and name == "SeedGenerator")
        )
        registered = each.get("registered_name")
        if not harmless or registered not in (None, name):
            raise _refused(file, f"it holds {module}.{name}, which is not on the list of layers")


def _check_names(file: Path, objects: Sequence[dict[str, Any]]) -> None:
    """Keras makes paths of layers' names."""
    for each in objects:
        name = each.get("name")
        if isinstance(name, str) and not (_NAME.fullmatch(name) and ".." not in name):
            raise _refused(file, f"a layer is named {name[:60]!r}")


def _check_sizes(file: Path, objects: Sequence[dict[str, Any]]) -> None:
    """An upper bound of the parameters: each layer's width times the most that may go into it."""
    units, filters, inputs, area, pixels = [1], [1], [1], 1, 1
    for each in objects:
        for key in _SIZES & set(each):
            sizes = _numbers(each[key])
            if any(not 0 <= size <= _LARGEST_SIZE for size in sizes):
                raise _refused(file, f"{key} is {each[key]}")
            if math.prod(size for size in sizes if size) > _LARGEST_ARRAY:
                raise _refused(file, f"{key} is {each[key]}")
        units += _numbers(each.get("units"))
        inputs += _numbers(each.get("input_shape"))  # of a layer that is built from its config
        multiplier = max(_numbers(each.get("depth_multiplier")), default=1)
        filters += [size * multiplier for size in _numbers(each.get("filters")) or [1]]
        area = max(area, math.prod(_numbers(each.get("kernel_size"))))
        pixels = max(pixels, math.prod(_numbers(each.get("batch_shape"))))
    dense = sum(units) * max(pixels * max(filters), *units, *inputs)
    convolutions = sum(filters) * max(*filters, *inputs) * area
    if dense + convolutions > MOST_PARAMETERS:
        raise _refused(file, f"it may have {dense + convolutions:,} parameters")


def _numbers(value: Any) -> list[int]:
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [int(value)] if isinstance(value, int | float) else []


def _check_weights(file: Path, content: bytes) -> None:
    """Only groups and plain data sets whose bytes lie in the file itself."""
    import h5py

    total = 0
    try:
        with h5py.File(io.BytesIO(content), "r") as root:
            for data in _datasets(file, root):
                plain = not data.is_virtual and not data.external and data.compression is None
                if not plain or data.dtype.kind not in "fiub":
                    raise _refused(file, f"{data.name} is no plain array of numbers")
                if data.nbytes and data.id.get_storage_size() < data.nbytes:
                    raise _refused(file, f"{data.name} claims more bytes than it has")
                total += data.nbytes
    except (OSError, RuntimeError, KeyError) as error:
        raise _refused(file, f"its weights cannot be read ({error})") from error
    if total > LARGEST_FILE:
        raise _refused(file, f"its weights unpack to {total:,} bytes")


def _datasets(file: Path, group: h5py.Group, depth: int = 0) -> Iterator[h5py.Dataset]:
    import h5py

    if depth > 20:
        raise _refused(file, "its weights are nested too deep")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise _refused(file, f"{group.name}/{name} is a link to somewhere else")
        found = group[name]
        if isinstance(found, h5py.Dataset):
            yield found
        else:
            yield from _datasets(file, found, depth + 1)


def _refused(file: Path, reason: str) -> DataError:
    return DataError(
        f"The model file {file.name} is refused: {reason}.",
        safe="It was not loaded, and no alias was moved.",
        next_step="Bring the file back from a copy, or use another version: mnist-lab models",
    )
