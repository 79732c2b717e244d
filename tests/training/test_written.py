"""Training by the author's own ``fit``: followed epoch by epoch."""

from __future__ import annotations

import keras
import pytest

from mnist_lab.spaces.asking import Answers
from mnist_lab.spaces.question import answer_default
from mnist_lab.spaces.registry import load_space
from mnist_lab.training import Diverged, TrainingPlan, around, find_form
from mnist_lab.training.written import train_as_written


class Left(BaseException):
    """As a supervisor leaves a training."""


@pytest.fixture
def run(strangers, small_dataset):
    """Train by the ``fit`` of a hypermodel; ``leave_after`` an epoch; history, model and reports."""

    def run(name, *, epochs=3, leave_after=0):
        author = load_space(f"{strangers}:{name}").open(Answers(ask=answer_default))

        def build():
            keras.utils.set_random_seed(3)
            return author.build((28, 28), 10)

        form = find_form(build, small_dataset.train, 10, fit=author.fit)
        model = build()
        model(form.feed(small_dataset.train.images[:1]))
        whole = around(model, form, (28, 28))
        reports = []

        def report(epochs):
            reports.append([each.epoch for each in epochs])
            if len(epochs) == leave_after:
                raise Left

        history = train_as_written(
            author.fit,
            model,
            whole,
            training=small_dataset.train,
            validation=small_dataset.validation,
            classes=10,
            plan=TrainingPlan(epochs=epochs, batch_size=32, seed=1),
            form=form,
            report=report,
        )
        return history, whole, reports

    return run


@pytest.mark.only_by_default("PlainFit")
@pytest.mark.parametrize("name", ["PlainFit", "OwnLoop"])
def test_every_epoch_of_the_authors_loop_is_reported(run, name):
    history, _, reports = run(name)
    assert reports == [[1], [1, 2], [1, 2, 3]]
    assert all(epoch.possible for epoch in history.epochs)
    assert history.epochs[-1].loss < history.epochs[0].loss


@pytest.mark.only_by_default("OwnValidation")
@pytest.mark.parametrize("name", ["OwnLoop", "OwnValidation"])
def test_its_validation_is_ours_and_the_model_is_left_with_its_best_epoch(run, small_dataset, name):
    history, whole, _ = run(name)
    found = whole.predict(small_dataset.validation.images, verbose=0).argmax(axis=1)
    right = float((found == small_dataset.validation.labels).mean())
    assert right == pytest.approx(history.best.val_accuracy, abs=1e-6)


@pytest.mark.only_by_default("PlainFit")
@pytest.mark.parametrize("name", ["PlainFit", "StopsEarly"])
def test_a_training_that_was_left_begins_again_and_ends_as_if_it_had_not(run, name):
    whole, *_ = run(name)
    with pytest.raises(Left):
        run(name, leave_after=1)
    again, *_ = run(name)
    assert [e.metrics() for e in again.epochs] == [e.metrics() for e in whole.epochs]


@pytest.mark.slow
def test_a_loop_that_ends_early_has_fewer_epochs(run):
    history, *_ = run("StopsEarly", epochs=9)
    assert len(history.epochs) < 9


@pytest.mark.slow
def test_a_loop_that_would_go_on_is_ended_with_the_last_epoch(run):
    history, _, reports = run("MoreEpochs", epochs=2)
    assert (len(history.epochs), reports) == (2, [[1], [1, 2]])


def test_a_loop_that_catches_everything_does_not_hide_that_it_diverged(run):
    with pytest.raises(Diverged):
        run("Swallows")
