"""The parameter names that KerasTuner itself finds in the public models: JSON {model: names}.

python experiments/public_models/oracle.py [NAME ...] --draws 200

A ``RandomSearch`` tuner searches as it always does (it fills the space, builds, and adds to the space
what ``build`` and ``fit`` asked for), but nothing is trained: ``fit`` gets a stand-in for the model
that ends the training when it is first used. Names asked before that count.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from typing import Any

import keras
import keras_tuner
import numpy as np
from plain import MODELS, data, load


class TrainingBegan(Exception):
    """The stand-in was used: ``fit`` has asked for what it asks before it trains."""


class StandIn:
    """Stands in for a Keras model; whatever is done with it ends the training."""

    def __getattr__(self, attribute: str) -> Any:
        raise TrainingBegan(attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TrainingBegan

    def fit(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        raise TrainingBegan


class Looking(keras_tuner.RandomSearch):
    """A random search that builds and does not train."""

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> float:
        keras.backend.clear_session()
        self.hypermodel.build(trial.hyperparameters)
        try:
            self.hypermodel.fit(trial.hyperparameters, StandIn(), *args, callbacks=[], **kwargs)
        except TrainingBegan:
            return 0.0
        raise RuntimeError("fit did not train")


def names(model: str, draws: int, seed: int) -> tuple[list[str], int]:
    """The names KerasTuner found in model ``model``, and in how many draws."""
    source = load(model)
    hypermodel = source() if isinstance(source, type) else source
    noise = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    x, y = data(model, noise, np.arange(8))
    with tempfile.TemporaryDirectory() as folder:
        tuner = Looking(
            hypermodel,
            objective=keras_tuner.Objective("nothing", "min"),
            max_trials=draws,
            seed=seed,
            directory=folder,
        )
        tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)
        for trial in tuner.oracle.trials.values():
            if trial.status != "COMPLETED":
                raise RuntimeError(f"{model}: {trial.message}")
        found = {parameter.name for parameter in tuner.oracle.hyperparameters.space}
        return sorted(found), len(tuner.oracle.trials)


def main() -> None:
    tuned = [
        name for name, public in MODELS.items() if public.tuned and public.attribute != "build"
    ]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=tuned, help="Models; default: all tuned ones.")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    answer = {}
    for model in args.names:
        answer[model], draws = names(model, args.draws, args.seed)
        print(f"{model}: {draws} draws", file=sys.stderr)
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
