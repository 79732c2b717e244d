from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import pytest
from filelock import FileLock
from optuna.trial import TrialState

from fakes import finished, model_record, outcome, trial_record
from mnist_lab import promotion as promotions
from mnist_lab.config import SweepConfig
from mnist_lab.data import leave_out
from mnist_lab.evaluation import pack_classes
from mnist_lab.models.join import join
from mnist_lab.models.versions import fetch
from mnist_lab.models.versions import load as load_for_real
from mnist_lab.promotion.contender import Contender
from mnist_lab.promotion.gate import GatePolicy
from mnist_lab.search.pruners import make_pruner
from mnist_lab.spaces import get_space
from mnist_lab.study.ledger import Ledger, Tracked
from mnist_lab.study.names import confirm_name
from mnist_lab.study.open import create_study, open_study
from mnist_lab.study.record import make_record
from mnist_lab.study.replicas import Design, Replica, replica_of
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
    monkeypatch.setattr("mnist_lab.models.versions.configure", lambda _: None)


LOADED = {}  # by digest: four networks serve all tests


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    """Networks are loaded once a session; their files are fetched and checked each time."""

    def load(client, model, settings):
        with tempfile.TemporaryDirectory() as folder:
            fetch(client, model, Path(folder))
        if model.sha256 not in LOADED:
            LOADED[model.sha256] = load_for_real(client, model, settings)
        return LOADED[model.sha256]

    def join_copies(networks):
        """Members must be networks of their own, as they are when each is loaded."""
        return join(networks if len(networks) == 1 else [copy(each) for each in networks])

    def copy(network):
        copied = keras.models.clone_model(network)
        copied.set_weights(network.get_weights())
        return copied

    monkeypatch.setattr("mnist_lab.promotion.entries.join", join_copies)
    for module in ("sealed_test", "entries", "examine"):
        monkeypatch.setattr(f"mnist_lab.promotion.{module}.load", load)


@pytest.fixture
def record(small_dataset):
    config = SweepConfig(space="fnn", epochs=1)
    return make_record("a", config, get_space("fnn"), small_dataset)


@pytest.fixture(scope="session")
def predicted(networks, small_dataset):
    """The packed classes that a skill's network gives the images of a public part."""

    @cache
    def predict(skill, part):
        network = keras.saving.load_model(networks[skill])
        images = leave_out(small_dataset, part).validation.images
        return pack_classes(network.predict(images, verbose=0).argmax(axis=1))

    return predict


class Stage:
    """Studies whose trainings are models of a skill: logged, and with their real predictions."""

    def __init__(self, settings, client, networks, record, predicted):
        self.settings, self.client, self.networks = settings, client, networks
        self.record, self.predicted = record, predicted
        self.tracker = MlflowTracker(client, artifact_location(settings, "e"))
        self.pruner = make_pruner("none", epochs=1)
        self.skills, self.trained, self.failing = {}, [], set()

    def make(self, name, skill="good", value=0.9, *, confirmed=True, model=True):
        """Make a study of one trial, its two replicas of ``confirm`` and its first of ``promote``.

        ``skill`` is that of its trainings, or a tuple of those of each round.
        Return the run of the latter for part 2, whose file is registered.
        """
        own = replace(self.record, id=name, name=name)
        study = create_study(connect(self.settings), own, pruner=self.pruner)
        self._finish(study, study.study.ask().number, value)
        self.skills[name] = skill
        if not confirmed:
            return None
        again = replace(own, id=f"{name}-c", name=confirm_name(name), confirms=name)
        create_study(connect(self.settings), again, pruner=self.pruner)
        for part in (0, 1):
            self.train_one(name, Replica(of=0, left_out=part), value)
        if not model:
            self._queue(name, Replica(of=0, left_out=2), value)
            return None
        return self.train_one(name, Replica(of=0, left_out=2), value)

    def train(self, name, replicas, _):
        """Train replicas: what ``promote`` is given."""
        for replica in replicas:
            self.trained.append((name, replica))
            if (name, replica) in self.failing:
                self.fail_one(name, replica)
            else:
                self.train_one(name, replica, 0.9)

    def train_all(self, *names):
        """Train all rounds of studies: a promotion has nothing to train then."""
        for name in names:
            found = Contender(search=open_study(self.settings, name), trial=0)
            self.train(name, found.missing(3), "")

    def log_missing(self, name):
        """Log the models of replicas that MLflow lacks."""
        ledger = open_study(self.settings, confirm_name(name))
        for number, tracked in ledger.tracked().items():
            if "mnist_lab.model" not in self.client.get_run(tracked.run).data.tags:
                self._log(name, number, tracked.run)

    def train_one(self, name, replica, value):
        number, run = self._queue(name, replica, value)
        self._log(name, number, run)
        return run

    def _log(self, name, number, run):
        replica = replica_of(open_study(self.settings, confirm_name(name)).trial(number))
        facts = model_record(self.networks[self._skill(name, replica)], study=confirm_name(name),
                             trial=number, scalars={}, params={})  # fmt: skip
        self.tracker.log_model(run, facts)

    def _skill(self, name, replica):
        skill = self.skills[name]
        return skill if isinstance(skill, str) else skill[replica.round - 1]

    def fail_one(self, name, replica):
        ledger, number = self._ask(name, replica)
        ledger.write(number).failure("diverged", "")
        ledger.finish(number, TrialState.FAIL)

    def _queue(self, name, replica, value):
        ledger, number = self._ask(name, replica)
        return number, self._finish(
            ledger, number, value, self.predicted(self._skill(name, replica), replica.left_out)
        )

    def _ask(self, name, replica):
        ledger = open_study(self.settings, confirm_name(name))
        ledger.queue_replica(
            open_study(self.settings, name).trial(0).params, of=replica.of,
            seed=replica.seed(0), left_out=replica.left_out, round_=replica.round,
        )  # fmt: skip
        return ledger, ledger.study.ask().number

    def _finish(self, study, number, value, predicted=""):
        parent = self.tracker.open_study(study.record)
        of = study.trial(number).replica_of
        run = self.tracker.open_trial(
            study.record, parent, trial_record(trial=number, params={}, replica_of=of)
        )
        study.write(number).start(seed=number, attempt=1)
        study.write_tracked(Tracked(trial=number, run=run, closed=True))
        study.write(number).result(replace(finished(number, 1, value), predicted=predicted))
        study.finish(number, TrialState.COMPLETE, value)
        self.tracker.close_trial(run, outcome())
        return run


@pytest.fixture
def stage(settings, client, networks, record, predicted):
    return Stage(settings, client, networks, record, predicted)


@pytest.fixture
def make_study(stage):
    return stage.make


@pytest.fixture
def promote(client, settings, stage, monkeypatch):
    # Figures take a second a promotion; one test has them drawn.
    monkeypatch.setattr("mnist_lab.promotion.sealed_test.draw_predictions", lambda *_: {})

    def promote(study, **options):
        given = {"policy": LENIENT, "design": Design(top=1), "train": stage.train, **options}
        return promotions.promote(client, study, settings, **given)

    return promote


class Killed(BaseException):
    """As a kill -9: nothing catches it."""


WRITES = ("create_model_version", "create_run", "create_logged_model", "delete_registered_model_alias",
          "finalize_logged_model", "log_artifacts", "log_batch", "log_inputs", "log_model_artifacts",
          "log_outputs", "set_experiment_tag", "set_model_version_tag", "set_registered_model_alias",
          "set_registered_model_tag", "set_tag", "set_terminated", "update_model_version")  # fmt: skip


@pytest.fixture
def kill_after(client, monkeypatch):
    """Let what is in its block make so many writes to MLflow and of predicted classes, and die."""

    @contextmanager
    def kill(writes):
        left = [writes]

        def dying(method):
            def call(*args, **options):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return method(*args, **options)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "keep_classes", dying(Ledger.keep_classes))
            for name in WRITES:
                patch.setattr(client, name, dying(getattr(client, name)))
            with suppress(Killed):
                yield
                pytest.fail(f"there are {writes - left[0]} writes only")

    return kill


@pytest.fixture
def lenient():
    return LENIENT
