"""Training by the author's own ``fit``: followed epoch by epoch, left and gone on with."""

from __future__ import annotations

import keras
import pytest

from mnist_lab.spaces.asking import Answers, answer_default
from mnist_lab.spaces.registry import load_space
from mnist_lab.training import Checkpoints, TrainingPlan, around, find_form
from mnist_lab.training.written import train_as_written


class Left(BaseException):
    """As a supervisor leaves a training."""


@pytest.fixture
def run(strangers, small_dataset, tmp_path):
    """Train by the ``fit`` of a hypermodel; ``leave_after`` an epoch; returns history and reports."""

    def run(name, *, epochs=3, leave_after=0, folder="one"):
        author = load_space(f"{strangers}:{name}").open(Answers(ask=answer_default))

        def build():
            keras.utils.set_random_seed(3)
            return author.build((28, 28), 10)

        form = find_form(build, small_dataset.train, 10, fit=author.fit)

        def pair():
            model = build()
            model(form.feed(small_dataset.train.images[:1]))
            return model, around(model, form, (28, 28))

        reports = []

        def report(epochs):
            reports.append([each.epoch for each in epochs])
            if len(epochs) == leave_after and not resumed:
                raise Left

        checkpoints = Checkpoints(tmp_path / folder, name)
        resumed = checkpoints.load() is not None
        history, _, whole = train_as_written(
            author.fit,
            pair,
            training=small_dataset.train,
            validation=small_dataset.validation,
            classes=10,
            plan=TrainingPlan(epochs=epochs, batch_size=32, seed=1),
            form=form,
            report=report,
            checkpoints=checkpoints,
        )
        return history, whole, reports

    return run


@pytest.mark.parametrize("name", ["PlainFit", "OwnLoop"])
def test_every_epoch_of_the_authors_loop_is_reported(run, name):
    history, _, reports = run(name)
    assert reports == [[1], [1, 2], [1, 2, 3]]
    assert all(epoch.possible for epoch in history.epochs)
    assert history.epochs[-1].loss < history.epochs[0].loss


def test_the_model_is_left_with_its_best_epoch(run, small_dataset):
    history, whole, _ = run("OwnLoop")
    found = whole.predict(small_dataset.validation.images, verbose=0).argmax(axis=1)
    right = float((found == small_dataset.validation.labels).mean())
    assert right == pytest.approx(history.best.val_accuracy, abs=1e-6)


def test_a_training_that_was_left_goes_on_with_the_next_epoch(run):
    with pytest.raises(Left):
        run("PlainFit", leave_after=1)
    history, _, reports = run("PlainFit")
    assert reports == [[1], [1, 2], [1, 2, 3]]  # the first is what the checkpoint brought back
    assert len(history.epochs) == 3


def test_a_loop_that_heeds_no_initial_epoch_begins_again(run):
    with pytest.raises(Left):
        run("OwnLoop", leave_after=2)
    history, _, reports = run("OwnLoop")
    assert reports == [[1, 2], [1], [1, 2], [1, 2, 3]]
    again, _, _ = run("OwnLoop", folder="another")
    assert [e.val_accuracy for e in history.epochs] == [e.val_accuracy for e in again.epochs]


def test_a_training_whose_epochs_are_all_done_is_not_trained_again(run):
    run("PlainFit", epochs=2)
    history, _, reports = run("PlainFit", epochs=2)
    assert (len(history.epochs), reports) == (2, [[1, 2]])
