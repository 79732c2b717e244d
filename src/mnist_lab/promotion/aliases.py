"""The aliases ``champion``, ``challenger`` and ``previous``: moved as one, recorded, taken back.

MLflow moves one alias a call. So the move is first written to the registered model as an event, then
the aliases are moved, then the event is marked as done: after a ``kill -9`` the next command finishes
the move. The events are the history that ``mnist-lab models MODEL`` shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from mnist_lab.errors import MnistLabError
from mnist_lab.models import CHAMPION, MISSING, PREVIOUS, read_tags, verify_version
from mnist_lab.settings import Settings
from mnist_lab.study import lock_model
from mnist_lab.tracking import TAG

_EVENT = f"{TAG}history."
_ROLLBACK = "rollback"


@dataclass(frozen=True, kw_only=True)
class AliasEvent:
    """A move of a model's aliases at ``when`` (ISO 8601, UTC), None for one taken away.

    ``done`` is False for a move that was interrupted.
    """

    number: int
    when: str
    why: str
    aliases: Mapping[str, int | None]
    done: bool


def find_holder(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Find the version that has an alias; None if there is none, or no such model."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in MISSING:
            return None
        raise


def move(client: MlflowClient, name: str, why: str, aliases: Mapping[str, int | None]) -> None:
    """Give each of ``aliases`` to its version, or take it away; finished later if interrupted."""
    event = AliasEvent(
        number=len(read_history(client, name)) + 1,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        why=why,
        aliases=dict(aliases),
        done=False,
    )
    _write(client, name, event, done=False)
    _apply(client, name, event)


def finish_pending(client: MlflowClient, name: str) -> AliasEvent | None:
    """Finish an interrupted move, and return it; None if there was none."""
    for event in read_history(client, name)[-1:]:
        if not event.done:
            _apply(client, name, event)
            return event
    return None


def read_history(client: MlflowClient, name: str) -> list[AliasEvent]:
    """Read every move of the model's aliases, oldest first."""
    tags = read_tags(client, name)
    return [
        AliasEvent(number=int(key.removeprefix(_EVENT)), **json.loads(value))
        for key, value in sorted(tags.items())
        if key.startswith(_EVENT)
    ]


def rollback(client: MlflowClient, settings: Settings, name: str) -> tuple[int, int]:
    """Make the previous champion champion again, and the champion previous; return their versions.

    Raises:
        MnistLabError: there is no champion, or nothing before it.
        DataError: the previous champion's file is not what was registered.
    """
    with lock_model(settings, name):
        finished = finish_pending(client, name)
        champion, previous = (find_holder(client, name, alias) for alias in (CHAMPION, PREVIOUS))
        if champion is None or previous is None or champion.version == previous.version:
            raise MnistLabError(
                f"{name} has no champion before the one that is.",
                safe="No alias was moved.",
                next_step=f"See: mnist-lab models {name}",
            )
        back, away = int(previous.version), int(champion.version)
        if finished is not None and finished.why.startswith(_ROLLBACK):
            return away, back  # this very command, typed again
        verify_version(client, previous, settings)
        move(client, name, f"{_ROLLBACK} from version {away}", {CHAMPION: back, PREVIOUS: away})
        return back, away


def _write(client: MlflowClient, name: str, event: AliasEvent, *, done: bool) -> None:
    facts = {"when": event.when, "why": event.why, "aliases": dict(event.aliases), "done": done}
    client.set_registered_model_tag(name, f"{_EVENT}{event.number:04d}", json.dumps(facts))


def _apply(client: MlflowClient, name: str, event: AliasEvent) -> None:
    for alias, version in event.aliases.items():
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, str(version))
    _write(client, name, event, done=True)
