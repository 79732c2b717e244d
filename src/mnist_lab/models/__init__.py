"""The versions of registered models: loaded safely, used, exported, served."""

from mnist_lab.models.export import export
from mnist_lab.models.join import join
from mnist_lab.models.pictures import prepare_images, read_pictures
from mnist_lab.models.predict import Prediction, encode_request, predict
from mnist_lab.models.rebuild import SpaceAbsentError, check_trained, load_trained
from mnist_lab.models.serving import prepare, prepare_path, server_command
from mnist_lab.models.versions import (
    CHALLENGER,
    CHAMPION,
    ENSEMBLE,
    MISSING,
    PREVIOUS,
    ModelFile,
    VersionRow,
    fetch,
    find_trial_model,
    find_version,
    find_version_model,
    is_version,
    is_writable,
    list_versions,
    load,
    load_version,
    read_tags,
    verify_version,
    versions_named,
    versions_of,
)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "ENSEMBLE",
    "MISSING",
    "PREVIOUS",
    "ModelFile",
    "Prediction",
    "SpaceAbsentError",
    "VersionRow",
    "check_trained",
    "encode_request",
    "export",
    "fetch",
    "find_trial_model",
    "find_version",
    "find_version_model",
    "is_version",
    "is_writable",
    "join",
    "list_versions",
    "load",
    "load_trained",
    "load_version",
    "predict",
    "prepare",
    "prepare_images",
    "prepare_path",
    "read_pictures",
    "read_tags",
    "server_command",
    "verify_version",
    "versions_named",
    "versions_of",
]
