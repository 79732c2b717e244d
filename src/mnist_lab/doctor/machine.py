"""Checks of the installation and the folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from mnist_lab.doctor.finding import Finding
from mnist_lab.errors import ConfigurationError
from mnist_lab.settings import Settings
from mnist_lab.study import require_writable

# A CNN's checkpoints, model and figures take some 50 MB; databases grow while they are written.
LOW_DISK_BYTES = 500 * 10**6


def check_versions() -> Iterator[Finding]:
    """Find packages that are missing, or of a version that mnist-lab was not made for."""
    for text in requires("mnist-lab") or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            found = ""
        if not found or not needed.specifier.contains(found, prereleases=True):
            yield Finding(
                subject=needed.name,
                problem=f"version {found or 'none'} is installed, {needed.specifier} is needed",
                advice=f"Type: pip install '{needed.name}{needed.specifier}'",
            )


def check_folders(settings: Settings) -> Iterator[Finding]:
    """Find folders that cannot be written."""
    try:
        require_writable(settings)
    except (ConfigurationError, OSError) as error:
        problem = getattr(error, "problem", str(error))
        advice = "Change its permissions, or make room."
        yield Finding(subject=str(settings.root), problem=problem, advice=advice)


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Find a disk that is nearly full."""
    free = shutil.disk_usage(settings.root).free
    if free < LOW_DISK_BYTES:
        yield Finding(
            subject=str(settings.root),
            problem=f"only {free:,} bytes are free on its disk",
            advice="Make room before the next sweep.",
        )
