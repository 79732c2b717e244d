from __future__ import annotations

import keras
import numpy as np
import pytest

from mnist_lab.spaces import get_space
from mnist_lab.training import Diverged, TrainingPlan, train


def build(**changes):
    space = get_space("fnn")
    keras.utils.set_random_seed(3)
    return space.build(space.point({"units_1": 32, "units_2": 32, **changes}), (28, 28), 10)


def plan(**changes):
    return TrainingPlan(**{"epochs": 3, "batch_size": 50, "seed": 3, **changes})


def run(model, dataset, **changes):
    go_on = changes.pop("go_on", lambda _: True)
    return train(
        model,
        training=dataset.train,
        validation=dataset.validation,
        plan=plan(**changes),
        go_on=go_on,
    )


def test_a_training_learns(small_dataset):
    history = run(build(), small_dataset, epochs=6)
    assert history.epochs[-1].loss < 0.8 * history.epochs[0].loss
    assert history.best.val_accuracy > 0.4


def test_epochs_are_counted_from_one_and_reported_one_by_one(small_dataset):
    seen = []
    history = run(build(), small_dataset, go_on=lambda epochs: not seen.append(epochs[-1]))
    assert [epoch.epoch for epoch in seen] == [1, 2, 3]
    assert tuple(seen) == history.epochs
    assert not history.stopped


def test_a_training_ends_after_the_epoch_at_which_it_is_told_to(small_dataset):
    history = run(build(), small_dataset, go_on=lambda epochs: len(epochs) < 2)
    assert len(history.epochs) == 2
    assert history.stopped


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
    assert type(history)(epochs=(first, same), stopped=False).best.epoch == 9


def test_the_same_seed_gives_the_same_history(small_dataset):
    histories = [run(build(dropout=0.3), small_dataset) for _ in range(2)]
    metrics = [[epoch.metrics() for epoch in history.epochs] for history in histories]
    assert metrics[0] == metrics[1]


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


@pytest.mark.slow
def test_our_trainer_and_plain_keras_agree_within_the_noise_of_seeds():
    from mnist_lab.data import load_dataset

    dataset = load_dataset("mnist")
    labels = keras.utils.to_categorical(dataset.train.labels, 10)
    held = (dataset.validation.images, keras.utils.to_categorical(dataset.validation.labels, 10))
    ours, plain = [], []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        ours.append(run(build(), dataset, epochs=2, seed=seed).epochs[-1].val_accuracy)
        keras.utils.set_random_seed(seed)
        fitted = build().fit(
            dataset.train.images, labels, validation_data=held, epochs=2, batch_size=50, verbose=0
        )
        plain.append(fitted.history["val_accuracy"][-1])
    assert abs(np.mean(ours) - np.mean(plain)) < 0.005
