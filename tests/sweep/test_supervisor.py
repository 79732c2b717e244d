"""The loop, with an executor in this thread and a tracker that remembers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import optuna
import pytest
from optuna.trial import TrialState

from fakes import FakeExecutor, finished, score
from mnist_lab.execution import TrialFailed
from mnist_lab.spaces import Constraint, SearchSpace, get_space
from mnist_lab.sweep import Supervisor, SweepConfig, ledger
from mnist_lab.sweep.files import TrialFiles
from mnist_lab.sweep.signals import StopRequest
from mnist_lab.sweep.strategies import make_pruner
from mnist_lab.sweep.study import connect, create_study, fingerprint
from mnist_lab.tracking import StudyRecord


@dataclass
class Memory:
    """A tracker that remembers what it is told; ``open`` are the runs not closed yet."""

    open: dict = field(default_factory=dict)
    closed: list = field(default_factory=list)
    epochs: list = field(default_factory=list)
    models: list = field(default_factory=list)
    summaries: list = field(default_factory=list)
    artifacts: list = field(default_factory=list)

    def open_study(self, study, run):
        return run or "parent"

    def open_runs(self, study_run):
        return frozenset(self.open)

    def open_trial(self, trial):
        run = f"run-{trial.trial}-{trial.attempt}"
        self.open[run] = trial
        return run

    def log_epoch(self, run, metrics):
        self.epochs.append((run, metrics.epoch))

    def close_trial(self, run, outcome):
        self.open.pop(run)
        self.closed.append((run, outcome))
        found = outcome.artifacts and sorted(p.name for p in outcome.artifacts.rglob("*.png"))
        self.artifacts.append(found)

    def log_model(self, run, model):
        assert model.file.exists()
        self.models.append(model.trial)
        return f"m-{model.trial}"

    def close_study(self, run, summary):
        self.summaries.append(summary)


@pytest.fixture
def lab(tmp_path, small_dataset):
    """A sweep of which every part but the study can be given; the study stays between calls."""
    tracker = Memory()
    url = f"sqlite:///{tmp_path}/optuna.db"

    def sweep(executor=None, *, space=None, stop=None, listener=None, **changes):
        space = space or get_space("fnn")
        fields = {"space": "fnn", "trials": 6, "epochs": 3, "pruner": "none", **changes}
        config = SweepConfig(**fields)
        study = create_study(
            connect(url),
            "s",
            fingerprint(config, space, small_dataset),
            pruner=make_pruner(config.pruner, epochs=config.epochs),
        )
        if not study.trials:
            study.enqueue_trial(space.baseline, user_attrs={"baseline": True})
        supervisor = Supervisor(
            config=config,
            study=study,
            space=space,
            record=StudyRecord(
                name="s", family="fnn", space=space.id, dataset=small_dataset, settings={}
            ),
            executor=executor or FakeExecutor(),
            tracker=tracker,
            files=TrialFiles(tmp_path / "work"),
            stop=stop or StopRequest(),
            listener=listener or (lambda _: None),
        )
        return supervisor.run(), study

    sweep.tracker = tracker
    sweep.work = tmp_path / "work"
    return sweep


def states(study):
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def test_a_sweep_ends_with_the_trials_asked_for(lab):
    result, study = lab()
    assert states(study) == ["COMPLETE"] * 6
    assert (result.finished, result.stopped) == (6, "")


def test_trial_zero_is_the_baseline(lab):
    _, study = lab()
    assert study.trials[0].params == get_space("fnn").baseline
    assert ledger.is_baseline(study.trials[0])
    assert not ledger.is_baseline(study.trials[1])


def test_the_same_command_again_continues_to_the_total(lab):
    lab(trials=4)
    result, study = lab(trials=6)
    assert states(study) == ["COMPLETE"] * 6
    assert result.finished == 6


def test_a_finished_sweep_trains_nothing_more(lab):
    lab(trials=3)
    executor = FakeExecutor()
    result, _ = lab(executor, trials=3)
    assert executor.jobs == []
    assert result.best is not None


def test_a_resumed_study_draws_what_an_uninterrupted_one_draws(lab, tmp_path, small_dataset):
    lab(trials=3)
    _, parts = lab(trials=12)
    whole = optuna.create_study(direction="maximize")
    whole.enqueue_trial(get_space("fnn").baseline)
    from mnist_lab.sweep.strategies import make_sampler
    from mnist_lab.sweep.suggest import suggest

    for number in range(12):
        whole.sampler = make_sampler("tpe", seed=0, trial=number, fixed={})
        trial = whole.ask()
        params = get_space("fnn").draw(
            lambda name, distribution, trial=trial: suggest(trial, name, distribution)
        )
        for epoch in (1, 2, 3):
            trial.report(score(params, epoch), epoch)
        whole.tell(trial, score(params, 3))
    assert [t.params for t in parts.trials] == [t.params for t in whole.trials]


def test_the_value_of_a_trial_is_its_best_validation_accuracy(lab):
    _, study = lab(trials=1)
    assert study.trials[0].value == pytest.approx(score(study.trials[0].params, 3))


def test_the_history_of_a_trial_is_in_the_ledger_before_it_ends(lab):
    _, study = lab(trials=1)
    history = ledger.read_history(study.trials[0])
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert study.trials[0].intermediate_values == {e.epoch: e.val_accuracy for e in history}


def test_every_epoch_is_told_to_the_tracker_once(lab):
    lab(trials=2)
    assert lab.tracker.epochs == [(f"run-{t}-1", e) for t in (0, 1) for e in (1, 2, 3)]


def test_every_run_is_closed_with_its_artifacts(lab):
    lab(trials=3)
    assert lab.tracker.open == {}
    assert [outcome.state for _, outcome in lab.tracker.closed] == ["complete"] * 3
    assert lab.tracker.artifacts == [["curves.png"]] * 3


def test_a_hopeless_trial_is_pruned_between_epochs(lab):
    result, study = lab(trials=20, epochs=4, pruner="median")
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(max(trial.intermediate_values) < 4 for trial in pruned)
    assert result.best.state == TrialState.COMPLETE
    assert {o.state for _, o in lab.tracker.closed} == {"complete", "pruned"}


def test_a_failed_trial_does_not_end_the_sweep(lab):
    failure = TrialFailed(trial=1, reason="diverged", detail="loss is not finite in epoch 1")
    result, study = lab(FakeExecutor(results={1: failure}), trials=3)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert result.reasons == {"diverged": 1}
    assert lab.tracker.closed[1][1].reason == "diverged"


def test_too_many_failures_in_a_row_end_the_sweep(lab):
    failures = {t: TrialFailed(trial=t, reason="crashed", detail="x") for t in range(9)}
    result, study = lab(FakeExecutor(results=failures), trials=9, max_failures=3)
    assert states(study) == ["FAIL"] * 3
    assert result.stopped == "3 trials in a row failed"
    assert lab.tracker.summaries[-1].state == "failed"


def test_a_sweep_of_which_every_trial_failed_has_not_succeeded(lab):
    failures = {t: TrialFailed(trial=t, reason="diverged", detail="x") for t in range(3)}
    result, _ = lab(FakeExecutor(results=failures), trials=3)
    assert result.stopped == "all 3 trials failed"
    assert lab.tracker.summaries[-1].state == "failed"


def test_a_run_that_the_ledger_does_not_know_is_closed_by_the_next_sweep(lab):
    lab.tracker.open["cut-off"] = None
    lab(trials=1)
    assert lab.tracker.open == {}
    assert next((run, o.state) for run, o in lab.tracker.closed) == ("cut-off", "interrupted")


def test_a_trial_that_was_cut_off_while_it_drew_draws_as_it_would_have(lab):
    _, study = lab(trials=3, sampler="random")
    expected = study.trials[2].params
    optuna.delete_study(study_name="s", storage=study._storage)
    lab(trials=2, sampler="random")
    _, study = lab(trials=2, sampler="random")
    study.ask()  # a trial that is running and has drawn nothing
    _, study = lab(trials=3, sampler="random")
    assert study.trials[2].params == expected


def test_the_study_is_closed_even_if_a_run_cannot_be(lab):
    def fail(*_):
        raise RuntimeError("no tracker")

    lab.tracker.log_model = fail
    with pytest.raises(RuntimeError, match="no tracker"):
        lab(trials=1)
    assert len(lab.tracker.summaries) == 1


@pytest.mark.parametrize("value", [math.inf, math.nan, 1.7, -0.1])
def test_an_impossible_accuracy_is_a_failure_and_never_best(lab, value):
    result, study = lab(FakeExecutor(results={1: finished(1, 3, value)}), trials=3)
    assert states(study)[1] == "FAIL"
    assert ledger.read_reason(study.trials[1]) == "invalid"
    assert result.best.number != 1


def test_a_point_that_breaks_a_constraint_is_told_without_training(lab):
    space = SearchSpace(
        **{
            **vars(get_space("fnn")),
            "constraints": (Constraint(name="never", allows=lambda _: False),),
        }
    )
    executor = FakeExecutor()
    _, study = lab(executor, space=space, trials=2)
    assert states(study) == ["FAIL", "FAIL"]
    assert executor.jobs == []


def test_two_slots_run_two_trials_at_once(lab):
    seen = []
    lab(FakeExecutor(slots=2), listener=lambda progress: seen.append(len(progress.running)))
    assert max(seen) == 2


def test_an_interruption_ends_the_epoch_and_keeps_the_trial_to_resume(lab):
    stop = StopRequest()

    def interrupt(trial, epoch):
        if (trial, epoch) == (1, 2):
            stop(2, None)

    result, study = lab(FakeExecutor(on_epoch=interrupt), stop=stop)
    assert states(study) == ["COMPLETE", "RUNNING"]
    assert (result.stopped, result.signal) == ("interrupted", 130)
    assert lab.tracker.closed[-1][1].state == "interrupted"
    assert lab.tracker.summaries[-1].state == "interrupted"


def test_a_resumed_trial_keeps_its_number_and_parameters(lab):
    stop = StopRequest()
    lab(FakeExecutor(on_epoch=lambda t, e: t == 1 and e == 2 and stop(2, None)), stop=stop)
    executor = FakeExecutor()
    result, study = lab(executor)
    assert states(study) == ["COMPLETE"] * 6
    assert executor.jobs[0].trial == 1
    assert executor.jobs[0].params == study.trials[1].params
    assert result.finished == 6
    assert [run for run, _ in lab.tracker.closed[1:3]] == ["run-1-1", "run-1-2"]


def test_sigterm_has_an_exit_code_of_its_own(lab):
    stop = StopRequest()
    result, _ = lab(FakeExecutor(on_epoch=lambda t, e: stop(15, None)), stop=stop, epochs=5)
    assert result.signal == 143


def test_a_second_interruption_stops_at_once_and_closes_every_run(lab):
    stop = StopRequest()

    def insist(trial, epoch):
        if trial == 1:
            stop(2, None)
            stop(2, None)

    with pytest.raises(KeyboardInterrupt):
        lab(FakeExecutor(slots=2, on_epoch=insist), stop=stop, epochs=5)
    assert lab.tracker.open == {}
    assert {outcome.state for _, outcome in lab.tracker.closed} == {"interrupted"}


def test_what_a_killed_supervisor_left_open_is_closed_when_it_is_resumed(lab):
    class Killed(BaseException):
        pass

    tracker = lab.tracker
    closing = tracker.close_trial

    def die(run, outcome):
        raise Killed

    tracker.close_trial = die  # dies after the ledger was told, before the tracker was
    with pytest.raises(Killed):
        lab(trials=2)
    tracker.close_trial = closing
    assert list(tracker.open) == ["run-0-1"]
    _, study = lab(trials=2)
    assert tracker.open == {}
    assert [(run, outcome.state) for run, outcome in tracker.closed] == [
        ("run-0-1", "complete"),
        ("run-1-1", "complete"),
    ]
    assert states(study) == ["COMPLETE"] * 2


def test_the_best_models_are_logged_and_the_others_are_deleted(lab):
    _, study = lab(trials=6, keep_models=2)
    best = [trial.number for trial in ledger.rank(study)[:2]]
    assert sorted(lab.tracker.models) == sorted(best)
    assert not list(lab.work.glob("trial-*"))


def test_a_model_is_not_logged_twice_by_a_resumed_sweep(lab):
    lab(trials=3, keep_models=1)
    lab(trials=3, keep_models=1)
    assert len(lab.tracker.models) == 1


def test_no_trial_is_begun_after_the_timeout(lab):
    result, study = lab(timeout=-1.0)
    assert states(study) == ["WAITING"]
    assert "timeout" in result.stopped


def test_a_grid_ends_when_its_points_are_done(lab):
    result, study = lab(sampler="grid", trials=50)
    assert states(study) == ["COMPLETE"]
    assert result.stopped == "every point of the grid is done"


def test_the_listener_sees_counts_best_and_time_left(lab):
    seen = []
    lab(trials=3, listener=seen.append)
    last = seen[-1]
    assert (last.finished, last.total, last.complete) == (3, 3, 3)
    assert last.best == (last.best[0], pytest.approx(max(score({}, 3), last.best[1])))
    assert last.seconds_left == 0
    assert seen[0].news == "trial 0 started on worker 0"


def test_the_summary_has_counts_best_and_a_table(lab):
    lab(trials=12)
    summary = lab.tracker.summaries[-1]
    assert summary.metrics["trials_complete"] == 12
    assert summary.tags["best_trial"]
    assert "| trial | val_accuracy |" in summary.note
    assert "12 complete" in summary.note
    assert sum(summary.importances.values()) == pytest.approx(1.0)
