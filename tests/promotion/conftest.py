from __future__ import annotations

import os
from dataclasses import replace

import keras
import pytest
from filelock import FileLock
from optuna.trial import TrialState

from fakes import finished, model_record, outcome, trial_record
from mnist_lab import promotion as promotions
from mnist_lab.config import SweepConfig
from mnist_lab.promotion.gate import GatePolicy
from mnist_lab.search.pruners import make_pruner
from mnist_lab.spaces import get_space
from mnist_lab.study.ledger import Tracked
from mnist_lab.study.names import confirm_name
from mnist_lab.study.open import create_study
from mnist_lab.study.record import make_record
from mnist_lab.study.replicas import Design
from mnist_lab.study.seeds import replica_seed
from mnist_lab.study.storage import connect
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.tracking.store import artifact_location

# A few real images only: what is asked of an accuracy elsewhere cannot be asked of these.
LENIENT = GatePolicy(minimum_accuracy=0.0, maximum_recall_loss=1.0, maximum_calibration_error=1.0,
                     maximum_latency=1e6)  # fmt: skip


EPOCHS = {"none": 0, "some": 2, "good": 25, "twin": 25}


@pytest.fixture(scope="session")
def networks(small_dataset, tmp_path_factory):
    """Model files by skill: "none" has learned nothing, "some" a little, "good" and "twin" much."""
    folder = (
        tmp_path_factory.getbasetemp().parent
        / f"networks-{os.environ.get('PYTEST_XDIST_TESTRUNUID', '')}"
    )
    folder.mkdir(exist_ok=True)
    files = {skill: folder / f"{skill}.keras" for skill in EPOCHS}
    with FileLock(folder / "lock"):  # trained by the first of pytest's processes
        if not all(file.exists() for file in files.values()):
            _train(files, small_dataset.train)
    return files


def _train(files, train):
    space, labels = get_space("fnn"), keras.utils.to_categorical(train.labels, 10)
    for seed, (skill, epochs) in enumerate(EPOCHS.items()):
        keras.utils.set_random_seed(seed)
        params = space.point({"units_1": 64, "normalisation": "scale", "dropout": 0.0})
        network = space.build(params, (28, 28), 10)
        if epochs:
            network.fit(train.images, labels, batch_size=32, epochs=epochs, verbose=0)
        keras.Model(network.inputs, network.outputs).save(files[skill])


@pytest.fixture(autouse=True)
def tensorflow_as_it_is(monkeypatch):
    """A command sets TensorFlow up first; here the suite has imported it already."""
    for module in ("promotion.sealed_test", "models.versions"):
        monkeypatch.setattr(f"mnist_lab.{module}.configure", lambda _: None)


@pytest.fixture
def record(small_dataset):
    config = SweepConfig(space="fnn", epochs=1)
    return make_record("a", config, get_space("fnn"), small_dataset)


@pytest.fixture
def make_study(settings, client, networks, record):
    """A finished, confirmed study of one trial whose best replica has logged a model of a skill."""
    pruner = make_pruner("none", epochs=1)

    def make(name, skill="good", value=0.9, *, confirmed=True, model=True):
        tracker = MlflowTracker(client, artifact_location(settings, "e"))
        own = replace(record, id=name, name=name)
        study = create_study(connect(settings), own, pruner=pruner)
        _trial(study, tracker, value)
        if not confirmed:
            return None
        again = replace(own, id=f"{name}-c", name=confirm_name(name), confirms=name)
        replicas = create_study(connect(settings), again, pruner=pruner)
        for replica, difference in enumerate((0.0, -0.01)):
            seed = replica_seed(0, replica)
            replicas.queue_replica(study.trial(0).params, of=0, seed=seed)
            run = _trial(replicas, tracker, value + difference)
            if model and replica == 0:
                best = run
                tracker.log_model(run, model_record(networks[skill], study=replicas.name,
                                                    scalars={}, params={}))  # fmt: skip
        return best if model else None

    def _trial(study, tracker, value):
        parent = tracker.open_study(study.record)
        number = study.study.ask().number
        of = study.trial(number).replica_of
        run = tracker.open_trial(
            study.record, parent, trial_record(trial=number, params={}, replica_of=of)
        )
        study.write(number).start(seed=number, attempt=1)
        study.write_tracked(Tracked(trial=number, run=run, closed=True))
        study.write(number).result(finished(number, 1, value))
        study.finish(number, TrialState.COMPLETE, value)
        tracker.close_trial(run, outcome())
        return run

    return make


@pytest.fixture
def promote(client, settings, monkeypatch):
    # Figures take a second a promotion; one test has them drawn.
    monkeypatch.setattr("mnist_lab.promotion.sealed_test.draw_predictions", lambda *_: {})

    def promote(study, **options):
        given = {"policy": LENIENT, "design": Design(top=1, seeds=2), **options}
        return promotions.promote(client, study, settings, **given)

    return promote


@pytest.fixture
def lenient():
    return LENIENT
