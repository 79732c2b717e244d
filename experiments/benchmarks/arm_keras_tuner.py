"""Arm B: KerasTuner, with a run in MLflow for every training.

    python experiments/benchmarks/arm_keras_tuner.py --tuner hyperband --home /tmp/b --epochs 3

``--fixed`` feeds the fixed points to KerasTuner's plain ``Tuner``, whichever --tuner is named: the
engine is the same.
"""

from __future__ import annotations

import argparse
import math

import keras_tuner
import numpy as np
from common import fixed_points, load_one_hot, make_parser, open_mlflow, read_options
from keras_tuner.engine.trial import TrialStatus

from mnist_lab.data import ImageForm
from mnist_lab.spaces.keras_tuner import SpaceHyperModel

MNIST = ImageForm()

OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")


class Model(SpaceHyperModel):
    """A space as KerasTuner knows it; every ``fit`` is a run."""

    def __init__(self, options: argparse.Namespace, images: np.ndarray) -> None:
        super().__init__(options.space, MNIST.shape, MNIST.classes)
        self.options = options
        self.images = images
        self.fits = 0

    def build(self, hp):
        from record import prepare

        return prepare(super().build(hp), hp.values, self.images, self.options.epochs)

    def fit(self, hp, model, *args, callbacks, **kwargs):
        # The callbacks are KerasTuner's own: those given to ``search`` it would copy for every trial.
        import mlflow
        from record import LogEpochs, RecordEpochs, fit

        number, self.fits = self.fits, self.fits + 1
        with mlflow.start_run(run_name=f"trial {number}"):
            mlflow.log_params(hp.values)
            ours = [RecordEpochs(self.options.home, number), LogEpochs()]
            return fit(model, hp.values, *args, callbacks=[*ours, *callbacks], **kwargs)


class FixedOracle(keras_tuner.Oracle):
    """Gives the fixed points in their order, then stops."""

    def __init__(self, points: list[dict], **kwargs) -> None:
        super().__init__(objective=OBJECTIVE, max_trials=len(points), **kwargs)
        self.points = points

    def populate_space(self, trial_id):
        return {"status": TrialStatus.RUNNING, "values": dict(self.points[int(trial_id)])}


def make_tuner(options: argparse.Namespace, images: np.ndarray) -> keras_tuner.Tuner:
    place = {"directory": options.home, "project_name": "tuner"}
    common = {"objective": OBJECTIVE, "seed": options.seed + 1, **place}  # 0 would be drawn anew
    model = Model(options, images)
    if options.fixed:
        return keras_tuner.Tuner(FixedOracle(fixed_points(options)), model, **place)
    if options.tuner == "bayesian":
        return keras_tuner.BayesianOptimization(model, max_trials=options.trials, **common)
    # One iteration trains about epochs * log3(epochs)**2 epochs (KerasTuner's documentation), so
    # these many have the epoch budget of the other arms.
    plan = max(1.0, math.log(options.epochs, 3) ** 2)
    return keras_tuner.Hyperband(
        model,
        max_epochs=options.epochs,
        factor=3,
        hyperband_iterations=max(1, round(options.trials / plan)),
        **common,
    )


def search(options: argparse.Namespace) -> None:
    import keras

    keras.utils.set_random_seed(options.seed)
    x, y, x_val, y_val = load_one_hot(options.images)
    open_mlflow(options.home)
    tuner = make_tuner(options, x)
    # Hyperband overrides the epochs; the others need them.
    tuner.search(x, y, validation_data=(x_val, y_val), epochs=options.epochs, verbose=0)
    tuner.get_best_models(1)[0].save(options.home / "best.keras")
    best = tuner.oracle.get_best_trials(1)[0]
    print(
        f"best of {len(tuner.oracle.trials)}: {best.score:.4f} with {best.hyperparameters.values}"
    )


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--tuner", choices=["hyperband", "bayesian"], default="hyperband")
    search(read_options(parser))
