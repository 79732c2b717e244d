"""Arm C: Ray Tune, ASHA and OptunaSearch, as many one-thread trials at a time as there are cores.

    python experiments/benchmarks/arm_ray.py --family fnn --home /tmp/c --trials 12 --epochs 3

``--home`` must be short: Ray puts sockets below it, whose paths may have 107 characters.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import tempfile
from pathlib import Path

# Before Ray is imported. Raylet and workers inherit them: no network, one thread a trial, and a token
# of this run's own, or Ray would write one into the home folder of whoever runs this.
os.environ |= {
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}

import ray
from common import (
    EXPERIMENT,
    fixed_points,
    load_one_hot,
    make_parser,
    open_mlflow,
    read_options,
    tracking_uri,
)
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search.optuna import OptunaSearch

from mnist_lab.data import ImageForm

MNIST = ImageForm()
OBJECT_STORE_BYTES = 512 * 2**20  # the data are 45 MB


def train(params: dict, *, data: tuple, options: argparse.Namespace) -> None:
    """One trial, in a worker process of its own."""
    import keras
    from record import RecordEpochs, fit, prepare

    class Report(keras.callbacks.Callback):
        """Reports every epoch; with the model, when it is the trial's best so far.

        Ray's own Keras callback reports a model with every epoch or never.
        """

        best = 0.0

        def on_epoch_end(self, epoch, logs=None):
            metrics = {name: float(value) for name, value in logs.items()}
            if metrics["val_accuracy"] <= self.best:
                tune.report(metrics)
                return
            self.best = metrics["val_accuracy"]
            with tempfile.TemporaryDirectory() as folder:
                self.model.save(Path(folder) / "model.keras")
                tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))

    x, y, x_val, y_val = data
    keras.utils.clear_session()  # a reused actor has built a model before
    keras.utils.set_random_seed(options.seed)
    model = options.space.build(params, MNIST.shape, MNIST.classes)
    fit(
        prepare(model, params, x, options.epochs),
        params,
        x,
        y,
        epochs=options.epochs,
        validation_data=(x_val, y_val),
        callbacks=[RecordEpochs(options.home, tune.get_context().get_trial_id()), Report()],
        verbose=0,
    )


def make_tuner(options: argparse.Namespace) -> tune.Tuner:
    asha = ASHAScheduler(max_t=options.epochs, grace_period=1, reduction_factor=3)
    points = fixed_points(options)
    wanted = {"metric": "val_accuracy", "mode": "max"}
    searcher = OptunaSearch(
        dict(options.space.distributions),
        seed=options.seed,
        points_to_evaluate=points or None,
        **wanted,
    )
    data = load_one_hot(options.images)
    trainable = tune.with_parameters(train, data=data, options=options)
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=FIFOScheduler() if options.fixed else asha,
            num_samples=options.trials,
            reuse_actors=options.reuse_actors,
            **wanted,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(options.home / "ray_results"),
            callbacks=[
                MLflowLoggerCallback(tracking_uri(options.home), experiment_name=EXPERIMENT)
            ],
            verbose=0,
        ),
    )


def search(options: argparse.Namespace) -> None:
    open_mlflow(options.home)
    ray.init(
        num_cpus=len(os.sched_getaffinity(0)),
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=str(options.home / "ray"),
        _node_ip_address="127.0.0.1",
    )
    results = make_tuner(options).fit()
    best = results.get_best_result("val_accuracy", "max", scope="all")
    model, value = max(best.best_checkpoints, key=lambda each: each[1]["val_accuracy"])
    with model.as_directory() as folder:
        shutil.copy(Path(folder) / "model.keras", options.home / "best.keras")
    print(f"best of {len(results)}: {value['val_accuracy']:.4f} with {best.config}")
    ray.shutdown()


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--reuse-actors", action="store_true", help="not Ray's default")
    search(read_options(parser))
