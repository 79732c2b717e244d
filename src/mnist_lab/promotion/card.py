"""The model card: the facts about a version, in one page.

The facts are gathered once, when the gate has decided, and kept as ``card/card.json`` with the run
of the version; the page is drawn from them alone, the same to the byte whenever it is drawn again. A
version whose run is gone has the page in its description.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from mnist_lab.config import VAL_ACCURACY, describe_value
from mnist_lab.data import ImageForm
from mnist_lab.errors import UnknownNameError
from mnist_lab.evaluation import Evaluation
from mnist_lab.models import ModelFile, is_writable
from mnist_lab.promotion.decision import PromotionRecord, describe_judgement
from mnist_lab.promotion.entries import Entry
from mnist_lab.settings import Settings
from mnist_lab.study import Confirmation, Ledger, confirm_name, open_study
from mnist_lab.tracking import TAG

FOLDER, FACTS, PAGE = "card", "card.json", "card.md"
LONGEST_DESCRIPTION = 5000  # of a version, in MLflow's database
MISTAKES = 5
LICENCES = {"mnist": "data CC BY-SA 3.0 (LeCun, Cortes, Burges)"}


def write_card(client: MlflowClient, version: ModelVersion, facts: dict[str, Any]) -> None:
    """Show the page on ``version``, and keep the ``facts`` with its run, if that is still there."""
    page = render(facts)
    if is_writable(client, str(version.run_id)):
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / FACTS).write_text(json.dumps(facts, indent=1))
            (Path(scratch) / PAGE).write_text(page)
            client.log_artifacts(str(version.run_id), scratch, FOLDER)
    shown = page if len(page) <= LONGEST_DESCRIPTION else page[: LONGEST_DESCRIPTION - 20] + "\n…"
    client.update_model_version(version.name, str(version.version), shown)


def rewrite_card(client: MlflowClient, version: ModelVersion, decision: PromotionRecord) -> None:
    """Show another ``decision`` on the card of ``version``, if it has one."""
    facts = _read_facts(client, version)
    if facts is not None:
        write_card(client, version, {**facts, "decision": asdict(decision)})


def read_card(client: MlflowClient, version: ModelVersion) -> str:
    """Return the card of a version, drawn from the facts that were kept, or from its description.

    Raises:
        UnknownNameError: it has none, because it never met the sealed images.
    """
    facts = _read_facts(client, version)
    if facts is not None:
        return render(facts)
    if str(version.description).startswith(f"# {version.name}, version "):
        return str(version.description)
    name = f"{version.name}/{version.version}"
    raise UnknownNameError(
        "model card of",
        name,
        (),
        next_step="A version has one when it has met the sealed images: mnist-lab models shows which.",
    )


def _read_facts(client: MlflowClient, version: ModelVersion) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = client.download_artifacts(str(version.run_id), f"{FOLDER}/{FACTS}", scratch)
            facts: dict[str, Any] = json.loads(Path(path).read_text())
        except (MlflowException, OSError):
            return None
        return facts


def render(facts: dict[str, Any]) -> str:
    """Render the facts that ``gather`` returned as markdown."""
    # Markdown for people who wrote the names in it themselves: nothing is to be escaped for HTML.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters |= {
        "percent": lambda value: f"{value:.2%}",
        "count": lambda value: f"{value:,}",
    }
    objective = facts["confirmation"].get("objective", VAL_ACCURACY)
    environment.filters["value"] = partial(describe_value, objective)
    # Cards of earlier versions have none of these.
    earlier = {"images": asdict(ImageForm()), "objective": objective, "seeds": [facts.get("seed")]}
    facts = {**earlier, **facts}
    template = (files("mnist_lab.promotion") / "card.md.j2").read_text("utf-8")
    return environment.from_string(template).render(facts) + "\n"


def gather(
    version: ModelVersion,
    entry: Entry,
    model: ModelFile,
    decision: PromotionRecord,
    evaluation: Evaluation,
    confirmation: Confirmation,
    settings: Settings,
) -> dict[str, Any]:
    """Gather the facts of the page, as JSON-able data; ``entry`` is what ``model`` was made of."""
    study = open_study(settings, confirmation.study)
    replicas = open_study(settings, confirm_name(confirmation.study))
    trials, record = entry.group.trials, study.record
    replica = trials[0]
    return {
        "model": version.name,
        "version": int(version.version),
        "study": confirmation.study,
        "trial": confirmation.chosen,
        "seeds": [trial.seed for trial in trials],
        "left_out": entry.group.left_out,
        "space": record.space,
        "space_digest": version.tags[f"{TAG}space_digest"],
        "sha256": model.sha256,
        "params": {name: str(value) for name, value in replica.params.items()},
        "parameters": len(trials) * confirmation.choice.parameters,
        "dataset": {
            "name": record.dataset,
            "sentence": record.data,
            **{name: asdict(split) for name, split in record.splits.items()},
        },
        "licence": LICENCES.get(record.dataset, "that of the data set"),
        "environment": replica.environment,
        "confirmation": asdict(confirmation),
        "decision": asdict(decision),
        "comparison": " ".join(describe_judgement(decision.judgement)),
        "calibration_error": evaluation.calibration_error,
        "classes": dict(zip(evaluation.class_names, evaluation.per_class, strict=True)),
        "images": asdict(record.images),
        "mistakes": _mistakes(evaluation),
        "cost": {**_cost(study), "confirm_epochs": _cost(replicas)["epochs"]},
    }


def _mistakes(evaluation: Evaluation) -> list[str]:
    pairs = [
        (int(count), true, predicted)
        for true, row in enumerate(evaluation.confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[:MISTAKES]
    names = evaluation.class_names
    return [
        f"{names[true]} taken for {names[predicted]} ({count})" for count, true, predicted in worst
    ]


def _cost(study: Ledger) -> dict[str, int]:
    trials = study.trials()
    histories = [(each.history, each.environment) for each in trials]
    seconds = sum(
        sum(epoch.seconds for epoch in history) * int(environment.get("threads") or 1)
        for history, environment in histories
    )
    return {
        "trials": len(trials),
        "epochs": sum(len(history) for history, _ in histories),
        "core_seconds": round(seconds),
    }
