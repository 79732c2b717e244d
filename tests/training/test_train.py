from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from mnist_lab.spaces import get_space
from mnist_lab.training import Checkpoints, Diverged, TrainingPlan, train
from mnist_lab.training.schedule import OneCycle
from mnist_lab.training.train import shift_images


def build(**changes):
    space = get_space("fnn-v1")
    keras.utils.set_random_seed(3)
    return space.build(space.point({"units_1": 32, "units_2": 32, **changes}), (28, 28), 10)


def plan(**changes):
    return TrainingPlan(**{"epochs": 3, "batch_size": 50, "seed": 3, **changes})


def run(model, dataset, **changes):
    report = changes.pop("report", lambda _: None)
    return train(
        model,
        training=dataset.train,
        validation=dataset.validation,
        plan=plan(**changes),
        report=report,
    )


def test_a_training_learns(small_dataset):
    history = run(build(), small_dataset, epochs=6)
    assert history.epochs[-1].loss < 0.8 * history.epochs[0].loss
    assert history.best.val_accuracy > 0.4


def test_epochs_are_counted_from_one_and_reported_one_by_one(small_dataset):
    seen = []
    history = run(build(), small_dataset, report=lambda epochs: seen.append(epochs[-1]))
    assert [epoch.epoch for epoch in seen] == [1, 2, 3]
    assert tuple(seen) == history.epochs


class Left(Exception):
    """What a report raises to leave a training."""


def leave_after(count, heard=None):
    def report(epochs):
        if heard is not None:
            heard(epochs)
        if len(epochs) == count:
            raise Left

    return report


def test_a_training_is_left_at_the_epoch_whose_report_raises(small_dataset, tmp_path):
    kept = Checkpoints(tmp_path, "me")
    with pytest.raises(Left):
        train(
            build(),
            training=small_dataset.train,
            validation=small_dataset.validation,
            plan=plan(),
            report=leave_after(2),
            checkpoints=kept,
        )
    assert kept.load().epoch == 2


def test_the_model_is_left_with_the_weights_of_its_best_epoch(small_dataset):
    model = build(learning_rate=0.02)
    history = run(model, small_dataset, epochs=8)
    probabilities = model.predict(small_dataset.validation.images, verbose=0)
    accuracy = np.mean(probabilities.argmax(axis=1) == small_dataset.validation.labels)
    assert accuracy == pytest.approx(history.best.val_accuracy, abs=1e-6)


def test_of_equal_accuracies_the_lower_loss_is_best(small_dataset):
    history = run(build(), small_dataset)
    first = history.epochs[0]
    same = type(first)(**{**vars(first), "epoch": 9, "val_loss": first.val_loss - 0.1})
    assert type(history)(epochs=(first, same)).best.epoch == 9


def test_the_same_seed_gives_the_same_history(small_dataset):
    histories = [run(build(dropout=0.3), small_dataset) for _ in range(2)]
    metrics = [[epoch.metrics() for epoch in history.epochs] for history in histories]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_another_seed_gives_another_history(small_dataset):
    first, second = (run(build(dropout=0.3), small_dataset, seed=seed) for seed in (1, 2))
    assert first.epochs[-1].loss != second.epochs[-1].loss


def test_a_loss_that_is_not_finite_ends_the_training_with_its_epoch(small_dataset):
    model = build(optimizer="sgd")
    model.optimizer.learning_rate = 1e30
    with pytest.raises(Diverged) as caught:
        run(model, small_dataset)
    assert caught.value.epoch == 1


def test_standardize_learns_the_training_images_mean_and_deviation(small_dataset):
    model = build(normalisation="standardize")
    run(model, small_dataset, epochs=1)
    layer = model.get_layer("standardize")
    images = small_dataset.train.images
    assert float(np.squeeze(layer.mean)) == pytest.approx(images.mean(), rel=1e-5)
    assert float(np.squeeze(layer.variance)) == pytest.approx(images.var(), rel=1e-5)


def test_a_saved_standardizing_model_predicts_the_same_in_plain_keras(small_dataset, tmp_path):
    model = build(normalisation="standardize")
    run(model, small_dataset, epochs=1)
    model.save(tmp_path / "model.keras")
    images = small_dataset.validation.images
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.predict(images, verbose=0) == pytest.approx(
        model.predict(images, verbose=0), abs=1e-6
    )


def test_a_last_batch_that_is_not_full_is_trained_too(small_dataset):
    model = build()
    run(model, small_dataset, epochs=1, batch_size=70)  # 600 images: eight batches and 40 images
    assert int(model.optimizer.iterations) == 9


def shifted(images, pixels):
    return shift_images(images, pixels, np.random.default_rng(0))


def test_images_are_shifted_by_no_more_than_asked_and_nothing_comes_in_but_black():
    images = np.zeros((500, 28, 28), np.uint8)
    images[:, 14, 14] = 255
    moved = shifted(images, 2)
    places = np.argwhere(moved)
    assert len(places) == 500
    assert places[:, 1:].min() == 12
    assert places[:, 1:].max() == 16


def test_what_leaves_an_image_does_not_come_in_at_its_other_side():
    images = np.zeros((200, 28, 28), np.uint8)
    images[:, 0, :] = 255
    assert not shifted(images, 3)[:, 4:].any()


def test_images_that_are_not_shifted_are_the_same():
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    assert shifted(images, 0) is images


def test_one_cycle_rises_to_the_learning_rate_and_ends_at_nothing():
    rates = [float(OneCycle(0.01, 100)(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) == 25
    assert rates[-1] == 0.0


@pytest.mark.slow
def test_a_training_with_one_cycle_goes_on_as_if_it_had_not_been_interrupted(
    small_dataset, tmp_path
):
    def part(report, folder):
        return train(
            build(),
            training=small_dataset.train,
            validation=small_dataset.validation,
            plan=plan(one_cycle=True, shift=2),
            report=report,
            checkpoints=Checkpoints(folder, "me"),
        )

    with pytest.raises(Left):
        part(leave_after(1), tmp_path / "a")
    resumed, whole = part(lambda _: None, tmp_path / "a"), part(lambda _: None, tmp_path / "b")
    assert [epoch.metrics() for epoch in resumed.epochs] == [
        pytest.approx(epoch.metrics(), rel=1e-5) for epoch in whole.epochs
    ]


@pytest.mark.slow
def test_our_trainer_and_plain_keras_agree_within_the_noise_of_seeds():
    from mnist_lab.data import load_dataset

    dataset = load_dataset("mnist")
    labels = keras.utils.to_categorical(dataset.train.labels, 10)
    held = (dataset.validation.images, keras.utils.to_categorical(dataset.validation.labels, 10))
    ours, plain = [], []
    for seed in range(5):
        keras.utils.set_random_seed(seed)
        ours.append(run(build(), dataset, epochs=2, seed=seed).epochs[-1].val_accuracy)
        keras.utils.set_random_seed(seed)
        fitted = build().fit(
            dataset.train.images, labels, validation_data=held, epochs=2, batch_size=50, verbose=0
        )
        plain.append(fitted.history["val_accuracy"][-1])
    assert abs(np.mean(ours) - np.mean(plain)) < 0.005


@pytest.fixture
def resume(small_dataset, tmp_path):
    """Train 2 of 4 epochs, let ``meddle`` loose on the checkpoints, and go on with a new model."""

    def resume(meddle=lambda _: None, **changes):
        folder = tmp_path / "checkpoints"
        heard = []

        def part(model, report):
            return train(
                model,
                training=small_dataset.train,
                validation=small_dataset.validation,
                plan=plan(epochs=4),
                report=report,
                checkpoints=Checkpoints(folder, "me"),
            )

        with pytest.raises(Left):
            part(build(**changes), leave_after(2))
        meddle(folder)
        return part(build(**changes), lambda epochs: heard.append(len(epochs))), heard

    return resume


def test_a_resumed_training_goes_on_as_if_it_had_not_been_interrupted(resume, small_dataset):
    history, heard = resume(dropout=0.4)
    whole = run(build(dropout=0.4), small_dataset, epochs=4)
    assert heard == [2, 3, 4]
    assert [epoch.metrics() for epoch in history.epochs] == [
        pytest.approx(epoch.metrics(), rel=1e-5) for epoch in whole.epochs
    ]


def test_what_was_measured_before_an_interruption_keeps_its_time(resume):
    history, _ = resume()
    stamps = [epoch.timestamp for epoch in history.epochs]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == 4


def test_the_best_weights_survive_an_interruption_when_they_are_not_the_newest(
    small_dataset, tmp_path, monkeypatch
):
    # Of two epochs the first is made the better one; the third, after the interruption, is worst.
    merits = {1: 0.9, 2: 0.5, 3: 0.1}
    monkeypatch.setattr(
        sys.modules["mnist_lab.training.epochs"], "_merit", lambda epoch: (merits[epoch.epoch], 0.0)
    )
    model, weights = build(), []

    def part(model, epochs, report):
        return train(
            model,
            training=small_dataset.train,
            validation=small_dataset.validation,
            plan=plan(epochs=epochs),
            report=report,
            checkpoints=Checkpoints(tmp_path, "me"),
        )

    with pytest.raises(Left):
        part(model, 3, leave_after(2, lambda _: weights.append(model.get_weights())))
    again = build()
    part(again, 3, lambda _: None)
    for mine, best in zip(again.get_weights(), weights[0], strict=True):
        assert np.array_equal(mine, best)


@pytest.mark.only_by_default("lost0-heard0")
@pytest.mark.parametrize(("lost", "heard"), [(("2",), [1, 2, 3, 4]), (("1", "2"), [1, 2, 3, 4])])
def test_a_training_whose_checkpoints_are_damaged_goes_on_from_what_is_left(resume, lost, heard):
    def cut(folder):
        for number in lost:
            arrays = folder / f"epoch-000{number}" / "arrays.npz"
            arrays.write_bytes(arrays.read_bytes()[:100])

    history, told = resume(cut)
    assert told == heard
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3, 4]


def test_a_training_that_had_ended_is_not_trained_again(small_dataset, tmp_path):
    def whole(model):
        return train(
            model,
            training=small_dataset.train,
            validation=small_dataset.validation,
            plan=plan(epochs=2),
            checkpoints=Checkpoints(tmp_path, "me"),
        )

    first = build()
    history = whole(first)
    second = build()
    assert whole(second) == history
    for mine, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(mine, theirs)


def test_a_checkpoint_that_does_not_fit_the_model_is_not_used(small_dataset, tmp_path):
    def part(model):
        return train(
            model,
            training=small_dataset.train,
            validation=small_dataset.validation,
            plan=plan(epochs=2),
            checkpoints=Checkpoints(tmp_path, "me"),
        )

    first = part(build(units_1=32))
    second = part(build(units_1=64))
    assert [epoch.epoch for epoch in second.epochs] == [1, 2]
    assert second.epochs[0].timestamp > first.epochs[-1].timestamp
