"""Studies of any size with all that a sweep writes, made without a sweep."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from fakes import epoch_metrics, finished
from mnist_lab.config import SweepConfig
from mnist_lab.evaluation import pack_predictions
from mnist_lab.execution import KEPT_PREDICTIONS, TrialFiles
from mnist_lab.spaces import get_space
from mnist_lab.study.open import create_study
from mnist_lab.study.record import make_record
from mnist_lab.study.storage import connect

BEGAN = datetime(2026, 11, 1, 12)
DISTRIBUTIONS = {
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "units": IntDistribution(16, 512, log=True),
    "dropout": FloatDistribution(0.0, 0.5),
    "activation": CategoricalDistribution(["relu", "gelu", "<b>silu</b>"]),
}
EPOCHS = 4


def make_study(
    settings, dataset, trials, *, name="s", kept=0, objective="val_accuracy", storage=None
):
    """A study whose first trial is the baseline, every third is pruned and every tenth failed.

    The ``kept`` best trials have left predictions that are right as often as their accuracy says.
    """
    config = SweepConfig(space="fnn", epochs=EPOCHS, objective=objective)
    record = make_record(name, config, get_space("fnn"), dataset)
    study = create_study(storage or connect(settings), record)
    drawing = np.random.default_rng(0)
    study.study.add_trials([_trial(number, drawing) for number in range(trials)])
    files = TrialFiles(settings.work / name)
    for rank, trial in enumerate(study.ranked()[:kept]):
        keep(files, trial.number, predictions(dataset.validation, trial.val_accuracy, seed=rank))
    return study


def keep(files, trial, probabilities):
    file = files.artifacts(trial) / KEPT_PREDICTIONS
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pack_predictions(probabilities))


def predictions(split, accuracy, *, seed, classes=10):
    """Probabilities of a model that is sure, and wrong on its share of the images."""
    drawing = np.random.default_rng(seed)
    answers = split.labels.astype(int)
    wrong = drawing.random(len(answers)) > accuracy
    answers[wrong] = (answers[wrong] + drawing.integers(1, classes, wrong.sum())) % classes
    found = np.full((len(answers), classes), 0.1 / (classes - 1), np.float32)
    found[np.arange(len(answers)), answers] = 0.9
    return found


def _trial(number, drawing):
    params = {
        "learning_rate": float(10 ** drawing.uniform(-4, -1)),
        "units": int(2 ** drawing.uniform(4, 9)),
        "dropout": float(drawing.uniform(0, 0.5)),
        "activation": ["relu", "gelu", "<b>silu</b>"][number % 3],
    }
    state = TrialState.COMPLETE
    if number and number % 10 == 0:
        state = TrialState.FAIL
    elif number and number % 3 == 0:
        state = TrialState.PRUNED
    quality = 0.97 - 0.02 * abs(np.log10(params["learning_rate"]) + 2.5) - 0.01 * drawing.random()
    began = BEGAN + timedelta(seconds=10 * number)
    length = EPOCHS if state == TrialState.COMPLETE else 1
    history = []
    for epoch in range(1, length + 1):
        metrics = asdict(epoch_metrics(epoch, quality - 0.03 / epoch))
        metrics["timestamp"] = (began + timedelta(seconds=4 * epoch)).timestamp()
        metrics["seconds"] = 3.5
        history.append(metrics)
    value = history[-1]["val_accuracy"] if state == TrialState.COMPLETE else None
    attributes = {
        "start": {"seed": number, "attempt": 1, "fruitless": 0, "epochs": 0},
        "history": history,
        **({"baseline": True} if number == 0 else {}),
    }
    if state == TrialState.COMPLETE:
        attributes["scalars"] = {
            **finished(number, length, value).scalars,
            "parameters": float(785 * params["units"]),
            "latency_ms": 0.2 + params["units"] / 1000,
        }
        attributes["environment"] = {"keras": "3.15.1"}
    if state == TrialState.FAIL:
        attributes |= {"reason": "diverged", "detail": "loss is not finite in epoch 1"}
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=value,
        datetime_start=began,
        datetime_complete=began + timedelta(seconds=4 * length + 1),
        params=params,
        distributions=DISTRIBUTIONS,
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={each["epoch"]: each["val_accuracy"] for each in history},
    )
