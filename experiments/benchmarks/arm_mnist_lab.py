"""Arm D: ``mnist-lab sweep`` as a user types it; R: the same with random search and no pruning.

    python experiments/benchmarks/arm_mnist_lab.py --family fnn --home /tmp/d --trials 12 --epochs 3

The command's progress lines on standard error become epochs.jsonl, stamped as they arrive; their
seconds are rounded to 0.1. --fixed and --untracked have no command, and call ``launch`` in this
process instead.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from common import fixed_points, load_pixels, make_parser, note_epoch, read_options

import spaces

EPOCH = re.compile(r"trial (\d+) epoch (\d+)/\d+ val_accuracy ([\d.]+) \(([\d.]+) s\)")
STUDY = "bench"


def note_line(home: Path, line: str) -> None:
    """Keep ``line`` if it tells of a finished epoch."""
    if found := EPOCH.search(line):
        trial, epoch, value, seconds = found.groups()
        note_epoch(home, trial, int(epoch), float(value), float(seconds))


def write_dataset(options: argparse.Namespace) -> str:
    """``mnist``, or the path of an .npz that mnist-lab divides into the images of --images."""
    if options.images is None:
        return "mnist"
    import numpy as np

    x, y, x_val, y_val = load_pixels(options.images)
    path = options.home / f"mnist-{options.images}.npz"
    train = {"x_train": np.concatenate([x, x_val]), "y_train": np.concatenate([y, y_val])}
    np.savez(path, **train, x_test=x_val, y_test=y_val)
    return str(path)


def space_reference(options: argparse.Namespace) -> str:
    """A name, or where a space is declared."""
    if options.family in spaces.PRODUCT:
        return str(options.family)
    return f"{Path(__file__).with_name('spaces.py')}:{options.family}"


def run_command(options: argparse.Namespace) -> int:
    """Run ``mnist-lab sweep`` with ``--home`` as its folder; return its exit code."""
    words = [str(Path(sys.executable).with_name("mnist-lab")), "sweep"]
    file = [] if options.family in spaces.PRODUCT else ["--space-file"]
    words += [*file, space_reference(options), "--study", STUDY]
    words += ["--trials", str(options.trials), "--epochs", str(options.epochs)]
    words += ["--seed", str(options.seed), "--dataset", write_dataset(options)]
    if options.random:
        words += ["--sampler", "random", "--pruner", "none"]
    environment = {**os.environ, "MNIST_LAB_HOME": str(options.home)}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            note_line(options.home, line)
            sys.stderr.write(line)
        return process.wait()


def run_here(options: argparse.Namespace) -> None:
    """The sweep in this process: with points that were queued, or without a tracker."""
    from mnist_lab.config import SweepConfig
    from mnist_lab.publish import connect_mlflow
    from mnist_lab.settings import Settings
    from mnist_lab.sweep import launch
    from mnist_lab.tracking import NullTracker

    plain = {"sampler": "random", "pruner": "none"} if options.random or options.fixed else {}
    config = SweepConfig(
        space=space_reference(options),
        study=STUDY,
        trials=options.trials,
        epochs=options.epochs,
        seed=options.seed,
        dataset=write_dataset(options),
        **plain,
    )
    settings = Settings(home=options.home)
    if options.fixed:
        queue_points(options, config, settings)
    result = launch(
        config,
        settings,
        listener=lambda progress: note_line(options.home, str(progress.news)),
        make_tracker=(lambda *_: NullTracker()) if options.untracked else connect_mlflow,
    )
    assert result.best is not None
    print(f"best of {result.finished}: {result.best.value:.4f} with {result.best.params}")


def queue_points(options: argparse.Namespace, config, settings) -> None:
    """Make the study before ``launch`` does, which queues its baseline only if nothing waits."""
    from mnist_lab.data import load_dataset
    from mnist_lab.search import make_pruner
    from mnist_lab.spaces.registry import load_space
    from mnist_lab.study import connect, create_study, make_record

    # ``get_space``, as ``launch`` has it, would start a process to read a file that is here already.
    space, dataset = load_space(config.space), load_dataset(config.dataset)
    record = make_record(STUDY, config, space, dataset)
    pruner = make_pruner(config.pruner, epochs=config.epochs)
    study = create_study(connect(settings), record, pruner=pruner)
    for point in fixed_points(options):
        study.queue_point(point, baseline=False, defaults=False)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--random", action="store_true", help="random search, no pruning (arm R)")
    parser.add_argument("--untracked", action="store_true", help="without MLflow")
    chosen = read_options(parser)
    if chosen.fixed or chosen.untracked:
        run_here(chosen)
    else:
        sys.exit(run_command(chosen))
