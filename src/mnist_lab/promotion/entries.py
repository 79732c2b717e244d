"""What predicts for a contender: its replicas, or the ensembles that they make, with their networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnist_lab.data import part_split
from mnist_lab.errors import BusyError, InterruptedSweep, MnistLabError
from mnist_lab.evaluation import pack_classes
from mnist_lab.models import (
    ModelFile,
    find_trial_model,
    find_version_model,
    join,
    load,
    versions_named,
)
from mnist_lab.promotion.contender import Contender, Group, part_name
from mnist_lab.promotion.contest import Contest
from mnist_lab.study import Ledger
from mnist_lab.tracking import TAG
from mnist_lab.training import VALIDATION_BATCH

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A ``group`` of the replicas in ``ledger`` that predicts the sealed images.

    ``models`` are those of its trials, empty where one is gone. ``network`` is their mean; None where
    the classes are kept.
    """

    ledger: Ledger
    group: Group
    models: tuple[ModelFile, ...]
    network: keras.Model | None


def find_entries(
    contest: Contest, contender: Contender, rounds: int, *, is_mine: bool
) -> list[Entry]:
    """Return what predicts the sealed images, with the networks of those that have yet to.

    Of an opponent only those whose classes are kept, or whose models can still be loaded; so of an
    ensemble.

    Raises:
        MnistLabError: a replica of the challenger has no model.
    """
    ledger, groups = contender.ledger(), contender.groups(rounds)
    kept = ledger.kept_classes(contest.sealed.digest)
    lacking = [group for group in groups if group.name not in kept]
    models = _ensure_models(contest, contender, groups, lacking, is_mine=is_mine)
    is_strict, found = is_mine and contender.members == 1, []
    for group in groups:
        files = tuple(models[each.number] for each in group.trials if each.number in models)
        whole = files if len(files) == len(group.trials) else ()
        network = None
        if group.name not in kept:
            network = _load_group(contest, ledger, group, models, is_strict=is_strict)
            if network is None:
                continue
        found.append(Entry(ledger=ledger, group=group, models=whole, network=network))
    if is_mine and not any(entry.models for entry in found):
        _load_group(contest, ledger, groups[0], models, is_strict=True)  # whose error says why
    return found


def load_entry(contest: Contest, entry: Entry) -> keras.Model:
    """Return the network of an entry whose models are there."""
    if entry.network is not None:
        return entry.network
    return _join(contest, entry.models)


def predict_parts(contest: Contest, contender: Contender, rounds: int, *, is_mine: bool) -> None:
    """Have each ensemble predict the part that its members left out; the classes are kept.

    What a single replica predicts was kept when it was trained. An ensemble that lacks a model is
    passed over.

    Raises:
        MnistLabError: all ensembles of the challenger lack one.
    """
    if contender.members == 1:
        return
    ledger, groups = contender.ledger(), contender.groups(rounds)
    lacking = [each for each in groups if not contender.predicted(each)]
    models = _ensure_models(contest, contender, lacking, lacking, is_mine=is_mine)
    for group in lacking:
        network = _load_group(contest, ledger, group, models, is_strict=False)
        if network is not None:
            images = part_split(contest.data, group.left_out).images
            classes = pack_classes(predict_classes(network, images))
            ledger.keep_classes(part_name(group.left_out), group.name, classes)
    if is_mine and lacking and not any(contender.predicted(each) for each in groups):
        _load_group(contest, ledger, lacking[0], models, is_strict=True)  # whose error says why


def predict_classes(network: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the most probable class of each image."""
    found = network.predict(images, batch_size=VALIDATION_BATCH, verbose=0)
    classes: NDArray[np.int64] = found.argmax(axis=1)
    return classes


def _ensure_models(
    contest: Contest,
    contender: Contender,
    groups: Sequence[Group],
    needed: Sequence[Group],
    *,
    is_mine: bool,
) -> dict[int, ModelFile]:
    """Find the models of ``groups``, by trial; MLflow takes first what it lacks of those ``needed``.

    It lacks some after an interruption.
    """
    ledger = contender.ledger()
    models = _find_models(contest, ledger, groups)
    if any(trial.number not in models for group in needed for trial in group.trials):
        _publish(contest, contender, is_mine=is_mine)
        models = _find_models(contest, ledger, groups)
    return models


def _publish(contest: Contest, contender: Contender, *, is_mine: bool) -> None:
    """Have MLflow take what it lacks of a contender's replicas; an opponent's may be gone for good."""
    try:
        contest.train(contender.study, (), contest.data.source)
    except (InterruptedSweep, BusyError):
        raise
    except MnistLabError:
        if is_mine:
            raise


def _find_models(contest: Contest, ledger: Ledger, groups: Sequence[Group]) -> dict[int, ModelFile]:
    """The models of trials in ``groups``, by number, as far as MLflow has them.

    That of a version made of a replica comes first, for the replica's run may be gone.
    """
    client, runs = contest.client, ledger.tracked()
    versions = versions_named(client, contest.candidate.name)
    found = {}
    for trial in (each for group in groups for each in group.trials):
        run = runs[trial.number].run if trial.number in runs else None
        own = str(trial.number), ledger.record.id
        with suppress(MnistLabError):
            for version in versions:
                of = version.tags.get(f"{TAG}replica"), version.tags.get(f"{TAG}replicas_id")
                if of == own or (run is not None and version.run_id == run):
                    found[trial.number] = find_version_model(client, version)
                    break
            else:
                found[trial.number] = find_trial_model(client, ledger.find_run(trial.number))
    return found


def _load_group(
    contest: Contest,
    ledger: Ledger,
    group: Group,
    models: Mapping[int, ModelFile],
    *,
    is_strict: bool,
) -> keras.Model | None:
    """Load the network of a group; None if it cannot be loaded, unless ``is_strict``."""
    try:
        return _join(
            contest,
            [
                models.get(each.number)
                or find_trial_model(contest.client, ledger.find_run(each.number))
                for each in group.trials
            ],
        )
    except MnistLabError:
        if is_strict:
            raise
        return None


def _join(contest: Contest, models: Sequence[ModelFile]) -> keras.Model:
    return join([load(contest.client, model, contest.settings) for model in models])
