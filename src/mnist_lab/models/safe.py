"""Loading a model file without running its content: its checks, then Keras's loader.

A model file is code until proven otherwise. Before Keras sees it, what it is made of is
checked, from the outside in: size and sha256, the members of the archive, every object and every size
that ``config.json`` names, every link and data set of the weights. What is not known to be harmless is
refused; then it is loaded with ``safe_mode``. The known attacks, and where each ends:

========================================================== ==========================================
``.h5``, pickle, a foreign pyfunc (its loader runs code)     not a ``.keras`` archive
a zip bomb, a path that leaves the archive, extra files      ``_read_members``
``Lambda``, ``TFSMLayer``, any class from another module     ``_check_objects``: a list of what may be
a layer's name with ``/`` or ``..`` (becomes a path)         ``_check_names``
layers of a thousand million units, alone or in a row        ``_check_sizes``
HDF5 links to other files or in circles, external data       ``_check_weights``
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lab.errors import DataError, first_line

if TYPE_CHECKING:
    import h5py
    import keras

# The largest model of the built-in spaces takes 6 MB; nothing for 28x28 images needs more than this.
LARGEST_FILE = 200 * 2**20
MOST_PARAMETERS = 1_000_000_000  # 4 GB
MEMBERS = frozenset({"metadata.json", "config.json", "model.weights.h5"})
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}")

# Layers that only compute, and the objects that they are configured with. Not those that join inputs
# side by side: a row of them doubles the width with each, beyond any bound by their own sizes.
LAYERS = frozenset({
    "Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Conv2D", "Dense",
    "DepthwiseConv2D", "Dropout", "ELU", "Flatten", "Functional", "GaussianDropout", "GaussianNoise",
    "GlobalAveragePooling2D", "GlobalMaxPooling2D", "InputLayer", "LayerNormalization", "LeakyReLU",
    "Maximum", "MaxPooling2D", "Multiply", "Normalization", "PReLU", "Permute", "ReLU", "Rescaling",
    "Reshape", "SeparableConv2D", "Sequential", "Softmax", "SpatialDropout2D", "Subtract",
    "UnitNormalization",
})  # fmt: skip
OTHERS = frozenset({"DTypePolicy", "SeedGenerator", "__keras_tensor__", "__tuple__"})
# By module: whatever is in these is an initializer, a regularizer or a constraint, and pure.
PURE_MODULES = frozenset({"keras.initializers", "keras.regularizers", "keras.constraints"})
LAYER_MODULES = re.compile(r"keras(\.layers|\.src\.models\.\w+|\.models|\.random)?")
# Shapes that a layer may be built for, and numbers that its own arrays have for sides.
_SHAPES = frozenset({"batch_shape", "batch_input_shape", "build_input_shape", "input_shape", "shape",
                     "target_shape"})  # fmt: skip
_SIDES = frozenset({"units", "filters", "kernel_size", "pool_size", "strides", "dilation_rate"})
# Options that add arrays to a layer, or multiply its width: no built-in space uses them.
_UNUSED = {"lora_rank": None, "quantization_config": None, "depth_multiplier": 1}
_LARGEST_SIZE = 65_536
_LARGEST_ARRAY = 10_000_000  # numbers in one input of a layer, for one image
# Whatever a library raises at content that it cannot read.
_UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, OverflowError,
               zipfile.BadZipFile, zlib.error)  # fmt: skip


def load_model(file: Path, sha256: str) -> keras.Model:
    """Load a ``.keras`` file whose digest is ``sha256``; not compiled, for predicting.

    Raises:
        DataError: the file is not what was registered, or holds what is not on the list.
    """
    check_file(file, sha256)
    import keras

    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except _UNREADABLE as error:
        raise _refused(file, f"Keras cannot load it ({first_line(error)})") from error


def check_file(file: Path, sha256: str) -> None:
    """Run every check of ``load_model``, without loading.

    Raises:
        DataError: as ``load_model``.
    """
    check_layers(file, check_archive(file, sha256))


def check_archive(file: Path, sha256: str) -> dict[str, bytes]:
    """Check size, digest, archive and weights; return the archive's members.

    Enough for a model that is built by its space, which takes nothing but weights from the file.

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
        members = _read_members(file, content)
        _check_weights(file, members["model.weights.h5"])
    except _UNREADABLE as error:
        raise _refused(file, f"it cannot be read ({first_line(error)})") from error
    return members


def check_layers(file: Path, members: Mapping[str, bytes]) -> None:
    """Check every object, name and size that ``config.json`` of the archive names.

    Raises:
        DataError: it holds what is not on the list.
    """
    try:
        config = json.loads(members["config.json"])
        if config["class_name"] not in ("Functional", "Sequential"):
            raise _refused(
                file, f"it is a {str(config['class_name'])[:60]}, no Functional or Sequential model"
            )
        objects = list(_objects(config))
        _check_objects(file, objects)
        _check_names(file, objects)
        _check_sizes(file, objects)
    except _UNREADABLE as error:
        raise _refused(file, f"it cannot be read ({first_line(error)})") from error


def is_on_the_list(file: Path, sha256: str) -> bool:
    """Return whether all objects of the file are on the list; other faults raise ``DataError``."""
    members = check_archive(file, sha256)
    try:
        check_layers(file, members)
    except DataError:
        return False
    return True


def names_keras_only(file: Path) -> bool:
    """Return whether a file written here holds only objects that Keras defines and can load."""
    with zipfile.ZipFile(file) as archive:
        objects = list(_objects(json.loads(archive.read("config.json"))))
    named = [each for each in objects if "class_name" in each]
    return all(
        str(each.get("module") or "keras").partition(".")[0] == "keras"
        and each["class_name"] not in ("Lambda", "function")
        and each.get("registered_name") in (None, each["class_name"])
        for each in named
    )


def _read_members(file: Path, content: bytes) -> dict[str, bytes]:
    """The archive's members, which Keras writes without compression: none can be larger than it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        names = sorted(member.filename for member in members)
        if names != sorted(MEMBERS):
            known = ", ".join(sorted(MEMBERS))
            raise _refused(file, f"it holds {', '.join(names)[:200]}, not {known}")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise _refused(file, f"{member.filename} is compressed, which Keras does not do")
        return {name: archive.read(name) for name in names}


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
    units, filters, channels, inputs, area, pixels = [1], [1], [1], [1], 1, 1
    for each in objects:
        for key, usual in _UNUSED.items():
            if each.get(key, usual) != usual:
                raise _refused(file, f"{key} is {each[key]!r}")
        for key in (_SHAPES | _SIDES) & set(each):
            for sizes in _shapes(each[key]):
                product = math.prod(size for size in sizes if size)
                if (
                    any(not 0 <= size <= _LARGEST_SIZE for size in sizes)
                    or product > _LARGEST_ARRAY
                ):
                    raise _refused(file, f"{key} is {each[key]!r}")
                channels += sizes if key in _SHAPES else []
                inputs += [product] if key in _SHAPES else []
        units += _numbers(each.get("units"))
        filters += _numbers(each.get("filters"))
        area = max(area, math.prod(_numbers(each.get("kernel_size"))))
        pixels = max(pixels, math.prod(_numbers(each.get("batch_shape"))))
    dense = sum(units) * max(pixels * max(filters), *units, *inputs)
    convolutions = sum(filters) * max(*filters, *channels) * area
    if dense + convolutions > MOST_PARAMETERS:
        raise _refused(file, f"it may have {dense + convolutions:,} parameters")


def _shapes(value: Any) -> Iterator[list[int]]:
    """The shape in ``value``, or the shapes of a layer with several inputs."""
    if isinstance(value, list) and any(isinstance(each, list) for each in value):
        for each in value:
            yield from _shapes(each)
    else:
        yield _numbers(value)


def _numbers(value: Any) -> list[int]:
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [int(value)] if isinstance(value, int | float) else []


def _check_weights(file: Path, content: bytes) -> None:
    """Only groups and plain data sets whose bytes lie in the file itself, each to be reached once."""
    import h5py

    with h5py.File(io.BytesIO(content), "r") as root:
        for data in _datasets(file, root, seen=set()):
            plain = not data.is_virtual and not data.external and data.compression is None
            if not plain or data.dtype.kind not in "fiub":
                raise _refused(file, f"{data.name} is no plain array of numbers")
            if data.nbytes and data.id.get_storage_size() < data.nbytes:
                raise _refused(file, f"{data.name} claims more bytes than it has")


def _datasets(file: Path, group: h5py.Group, seen: set[int]) -> Iterator[h5py.Dataset]:
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise _refused(file, f"{group.name}/{name} is a link to somewhere else")
        found = group[name]
        address = h5py.h5o.get_info(found.id).addr
        if address in seen:
            raise _refused(file, f"{group.name}/{name} is a link to what stands elsewhere too")
        seen.add(address)
        if isinstance(found, h5py.Dataset):
            yield found
        else:
            yield from _datasets(file, found, seen)


def _refused(file: Path, reason: str) -> DataError:
    return DataError(
        f"The model file {file.name} is refused: {reason}.",
        safe="It was not loaded, and no alias was moved.",
        next_step="Bring the file back from a copy, or use another version: mnist-lab models",
    )
