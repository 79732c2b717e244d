"""Arms A, A- and A-start: Optuna and Keras's ``fit`` in one process, as a competent person writes it.

    python experiments/benchmarks/arm_optuna.py --family fnn --home /tmp/a --trials 12 --epochs 3

TPE and the default pruner, MLflow by ``log_params`` and ``log_metrics`` (A-), or by
``mlflow.keras.autolog`` as it is by default, which also logs every trial's model (A, --autolog).
A-start is A- with the space's defaults as its first trial (--start) and its other starts as the next
ones, as mnist-lab has them.
"""

from __future__ import annotations

import argparse
from functools import partial

import optuna
from common import fixed_points, load_one_hot, make_parser, open_mlflow, read_options

from mnist_lab.data import ImageForm
from mnist_lab.search.suggest import suggest

MNIST = ImageForm()


def search(options: argparse.Namespace) -> None:
    import keras
    import mlflow
    from record import KeepBest

    data = load_one_hot(options.images)
    open_mlflow(options.home)
    if options.autolog:
        mlflow.keras.autolog()
    pruner = optuna.pruners.NopPruner() if options.fixed else optuna.pruners.MedianPruner()
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=options.seed), pruner=pruner
    )
    space = options.space
    first = [space.point(start) for start in ({}, *space.starts)] if options.start else []
    for point in fixed_points(options) or first:
        study.enqueue_trial(point)
    keep = KeepBest(options.home / "best.keras")
    for _ in range(options.trials):
        keras.utils.clear_session()
        trial = study.ask()
        params = space.draw(partial(suggest, trial))
        with mlflow.start_run(run_name=f"trial {trial.number}"):
            mlflow.log_params(params)
            try:
                study.tell(trial, train(trial, params, data, keep, options))
            except optuna.TrialPruned:
                mlflow.set_tag("state", "pruned")
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    print(f"best of {len(study.trials)}: {study.best_value:.4f} with {study.best_params}")


def train(
    trial: optuna.Trial, params: dict, data: tuple, keep, options: argparse.Namespace
) -> float:
    """Best validation accuracy of one training.

    Raises:
        optuna.TrialPruned: from inside ``fit``, as optuna-integration's callback raises it.
    """
    import keras
    from record import LogEpochs, RecordEpochs, fit, prepare

    class Prune(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            trial.report(logs["val_accuracy"], epoch + 1)
            if trial.should_prune():
                raise optuna.TrialPruned

    x, y, x_val, y_val = data
    keras.utils.set_random_seed(1000 * options.seed + trial.number)
    record = RecordEpochs(options.home, trial.number)
    by_hand = [] if options.autolog else [LogEpochs()]
    model = options.space.build(params, MNIST.shape, MNIST.classes)
    fit(
        prepare(model, params, x, options.epochs),
        params,
        x,
        y,
        epochs=options.epochs,
        validation_data=(x_val, y_val),
        callbacks=[record, *by_hand, keep, Prune()],
        verbose=0,
    )
    return record.best


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--autolog", action="store_true")
    parser.add_argument("--start", action="store_true", help="with the space's starts")
    search(read_options(parser))
