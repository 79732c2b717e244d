"""Any schedule of kills, stops, crashes, lost checkpoints and a failing tracker ends in one state.

The study's database and MLflow are real; the supervisor dies by an exception after which it can
neither write to the study nor reach the tracker, which is what a process that is gone can do.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from fakes import FakeExecutor, crash, study_record
from mnist_lab.config import SweepConfig
from mnist_lab.execution import TrialFiles
from mnist_lab.publish import BackgroundWriter
from mnist_lab.publish.writer import TrackerWriter
from mnist_lab.search import make_pruner, make_scheduler
from mnist_lab.settings import Settings
from mnist_lab.spaces import SearchSpace
from mnist_lab.study import FINISHED, SingleWriterStorage, connect, create_study, make_record
from mnist_lab.sweep.signals import StopRequest
from mnist_lab.sweep.supervisor import Supervisor
from mnist_lab.tracking.mlflow_tracker import MlflowTracker
from mnist_lab.tracking.store import open_client

TRIALS, EPOCHS = 20, 2
SPACE = SearchSpace(
    name="fnn",
    version=1,
    description="two parameters: each costs a write",
    distributions={
        "units": IntDistribution(8, 128),
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    },
    defaults={"units": 32, "learning_rate": 1e-3},
    build=lambda *_: None,
)
WRITES = (
    "create_new_trial",
    "set_study_user_attr",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
)
CALLS = ("open_study", "open_trial", "log_epochs", "close_trial", "log_model", "close_study")


class Killed(BaseException):
    """The supervisor's process is gone."""


class World:
    """What outlives a supervisor: the disk, MLflow, and the checkpoints of its workers."""

    def __init__(self, home, dataset, crashes):
        self.settings = Settings(home=home)
        self.dataset = dataset
        self.checkpoints = {}
        self.results = {trial: [crash(trial)] for trial in crashes}
        self.client = open_client(self.settings)
        self.tracker = MlflowTracker(self.client)
        self.kind, self.left = "", 0
        self.dead = False

    def study(self):
        config = self.config()
        return create_study(
            SingleWriterStorage(connect(self.settings)),
            make_record("s", config, SPACE, self.dataset),
            pruner=make_pruner("none", epochs=EPOCHS),
        )

    def config(self):
        return SweepConfig(space="fnn", trials=TRIALS, epochs=EPOCHS, sampler="random", study="s")

    def tick(self, place):
        """Called at every write and every call; dies, or fails, when its time has come."""
        if self.dead:
            raise Killed if place == "ledger" else RuntimeError("gone")
        if self.kind.endswith(place):
            self.left -= 1
            if self.left == 0 and self.kind.startswith("kill"):
                self.dead = True
                raise Killed if place == "ledger" else RuntimeError("gone")

    def sweep(self, kind="", at=0):
        """Sweep until the end, or until ``kind`` happens at the ``at``-th occasion."""
        self.kind, self.left, self.dead = kind, at, False
        stop = StopRequest()
        epochs = [0]

        def on_epoch(trial, epoch):
            epochs[0] += 1
            if kind == "stop" and epochs[0] == at % (TRIALS * EPOCHS) + 1:
                stop(2, None)

        if kind == "lose checkpoints":
            for done in self.checkpoints.values():
                del done[at % (EPOCHS + 1) :]
        files = TrialFiles(self.settings.work / "s")
        writer = BackgroundWriter(
            TrackerWriter(study_record(), lambda: Unreliable(self), files), reached=True
        )
        try:
            study = self.study()
            writer.start()
            Supervisor(
                config=self.config(),
                study=study,
                space=SPACE,
                executor=FakeExecutor(
                    checkpoints=self.checkpoints, on_epoch=on_epoch, results=self.results
                ),
                writer=writer,
                files=files,
                stop=stop,
                scheduler=make_scheduler("none", study, trials=TRIALS, epochs=EPOCHS, seed=0),
            ).run()
        except Killed:
            pass
        finally:
            self.dead = self.dead or self.kind.startswith("kill")
            writer._closing = writer._abandoned = True
            writer._wake.set()
            if writer._thread.is_alive():
                writer._thread.join()
            self.dead = False


class Unreliable:
    """MLflow behind a line that may be cut before a call, or lose its answer."""

    def __init__(self, world):
        self._world = world

    def __getattr__(self, name):
        method = getattr(self._world.tracker, name)

        def call(*arguments, **options):
            world = self._world
            world.tick("tracker")
            failing = world.kind in ("tracker down", "answers lost") and name in CALLS
            if failing and world.kind == "tracker down" and world.left > 0:
                world.left -= 1
                raise ConnectionError("down")
            result = method(*arguments, **options)
            if failing and world.kind == "answers lost" and world.left > 0:
                world.left -= 1
                raise ConnectionError("the answer is lost")
            return result

        return call


KINDS = ("kill at ledger", "kill at tracker", "stop", "tracker down", "answers lost",
         "lose checkpoints")  # fmt: skip
SCHEDULES = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 200)), max_size=4)
CRASHES = st.sets(st.integers(0, TRIALS - 1), max_size=4)


@pytest.fixture(scope="module")
def deadly_storage():
    """Every write of the study's storage asks the world first."""
    world = []

    def wrap(name):
        original = getattr(SingleWriterStorage, name)

        def write(self, *arguments, **options):
            if world:
                world[0].tick("ledger")
            return original(self, *arguments, **options)

        return original, write

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(SingleWriterStorage, name, wrap(name)[1])
        yield world


@pytest.fixture(scope="module")
def expected(small_dataset, tmp_path_factory, mlflow_template):
    """The trials of a sweep that nothing happened to."""
    home = tmp_path_factory.mktemp("expected")
    shutil.copyfile(mlflow_template, home / "mlflow.db")
    world = World(home, small_dataset, ())
    world.sweep()
    return [(trial.params, trial.value) for trial in world.study().trials()]


def finished(world):
    return {trial.number: trial.value for trial in world.study().trials(FINISHED)}


def check(schedule, crashes, small_dataset, mlflow_template, deadly_storage, expected):
    with tempfile.TemporaryDirectory() as home:
        shutil.copyfile(mlflow_template, Path(home) / "mlflow.db")
        world = World(Path(home), small_dataset, crashes)
        before = {}
        for kind, at in schedule:
            deadly_storage[:] = [world]
            world.sweep(kind, at)
            deadly_storage.clear()
            now = finished(world)
            assert before.items() <= now.items(), "a finished trial was lost"
            before = now
        world.sweep()
        study = world.study()
        assert before.items() <= finished(world).items()
        assert [(trial.params, trial.value) for trial in study.trials()] == expected
        assert {trial.state.name for trial in study.trials()} == {"COMPLETE"}
        compare(world, study)


def compare(world, study):
    experiment = world.client.get_experiment_by_name("mnist-lab/tiny-fnn")
    runs = world.client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    trials = [run for run in runs if run.data.tags["mnist_lab.level"] == "trial"]
    numbers = Counter(int(run.data.tags["mnist_lab.trial"]) for run in trials)
    assert numbers == Counter(range(TRIALS))
    for run in trials:
        trial = study.study.trials[int(run.data.tags["mnist_lab.trial"])]
        points = world.client.get_metric_history(run.info.run_id, "val_accuracy")
        assert [(p.step, p.value) for p in points] == sorted(trial.intermediate_values.items())
        assert run.data.metrics["best_val_accuracy"] == pytest.approx(trial.value)


FEW = hypothesis_settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking would take minutes; the schedule is short as it is
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@FEW
@given(schedule=SCHEDULES, crashes=CRASHES)
def test_four_schedules_end_in_the_same_state(
    schedule, crashes, small_dataset, mlflow_template, deadly_storage, expected
):
    check(schedule, crashes, small_dataset, mlflow_template, deadly_storage, expected)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@hypothesis_settings(FEW, max_examples=200, derandomize=False)
@given(schedule=SCHEDULES, crashes=CRASHES)
def test_two_hundred_schedules_end_in_the_same_state(
    schedule, crashes, small_dataset, mlflow_template, deadly_storage, expected
):
    check(schedule, crashes, small_dataset, mlflow_template, deadly_storage, expected)
