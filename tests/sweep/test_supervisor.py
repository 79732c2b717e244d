"""The loop, with an executor in this thread and a tracker that remembers."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from fakes import FakeExecutor, Memory, crash, diverged, epoch_metrics, finished, score
from mnist_lab.config import SweepConfig
from mnist_lab.execution import FailureReason, TrialFailed, TrialFiles
from mnist_lab.publish import BackgroundWriter
from mnist_lab.publish.writer import TrackerWriter
from mnist_lab.report import report_pruning
from mnist_lab.search import make_pruner, make_sampler, make_scheduler, suggest
from mnist_lab.settings import Settings
from mnist_lab.spaces import Constraint, SearchSpace, get_space
from mnist_lab.study import (
    INTERRUPTED,
    Ledger,
    SingleWriterStorage,
    Stopped,
    StopReason,
    connect,
    create_study,
    make_record,
)
from mnist_lab.study.trials import TrialWriter
from mnist_lab.sweep import NewsKind
from mnist_lab.sweep.signals import StopRequest
from mnist_lab.sweep.supervisor import Supervisor


@pytest.fixture
def lab(tmp_path, small_dataset, optuna_template):
    """A sweep of which every part but the study can be given; the study stays between calls.

    So do the checkpoints that its fake executors leave.
    """
    tracker = Memory()
    settings = Settings(home=tmp_path)
    shutil.copyfile(optuna_template, tmp_path / "optuna.db")
    checkpoints = {}

    def sweep(executor=None, *, space=None, stop=None, listener=None, **changes):
        space = space or get_space("fnn")
        fields = {"space": "fnn", "trials": 6, "epochs": 3, "pruner": "none", **changes}
        config = SweepConfig(**fields)
        study = create_study(
            SingleWriterStorage(connect(settings)),
            make_record("s", config, space, small_dataset),
            pruner=make_pruner(config.pruner, epochs=config.epochs),
        )
        if not study.count():
            study.queue_point(space.baseline, baseline=True, defaults=False)
        executor = executor or FakeExecutor()
        executor.checkpoints = checkpoints
        files = TrialFiles(tmp_path / "work")
        writer = BackgroundWriter(TrackerWriter(study.record, lambda: tracker, files), reached=True)
        writer.start()
        supervisor = Supervisor(
            config=config,
            study=study,
            space=space,
            executor=executor,
            writer=writer,
            files=files,
            stop=stop or StopRequest(),
            scheduler=make_scheduler(
                config.pruner,
                study,
                trials=config.trials,
                epochs=config.epochs,
                seed=config.seed,
                exempt=[0],
            ),
            listener=listener or (lambda _: None),
        )
        return supervisor.run(), study

    sweep.tracker = tracker
    sweep.checkpoints = checkpoints
    sweep.work = tmp_path / "work"
    return sweep


def states(study):
    return [trial.state.name for trial in study.trials()]


def reported(study, number):
    """What Optuna was told of a trial's epochs."""
    return study.study.trials[number].intermediate_values


def test_a_sweep_ends_with_the_trials_asked_for(lab):
    result, study = lab()
    assert states(study) == ["COMPLETE"] * 6
    assert (result.finished, result.stopped) == (6, None)


def test_trial_zero_is_the_baseline(lab):
    _, study = lab()
    assert study.trial(0).params == get_space("fnn").baseline
    assert study.trial(0).baseline
    assert not study.trial(1).baseline


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


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_a_total_below_what_is_begun_leaves_the_rest_as_it_is(lab, pruner):
    stop = StopRequest()
    lab(FakeExecutor(on_epoch=lambda t, e: t == 4 and stop(2, None)), stop=stop, pruner=pruner)
    executor = FakeExecutor()
    result, study = lab(executor, trials=1, pruner=pruner)
    assert executor.jobs == []
    done = [each for each in states(study) if each in ("COMPLETE", "PRUNED")]
    assert (result.finished, result.stopped) == (len(done), None)
    assert "RUNNING" in states(study)


def test_a_resumed_study_draws_what_an_uninterrupted_one_draws(lab, tmp_path, small_dataset):
    lab(trials=3)
    _, parts = lab(trials=12)
    whole = optuna.create_study(direction="maximize")
    whole.enqueue_trial(get_space("fnn").baseline)
    for number in range(12):
        whole.sampler = make_sampler("tpe", seed=0, trial=number, fixed={})
        trial = whole.ask()

        def draw(name, distribution, number=number, trial=trial):
            if name not in trial.relative_params:
                whole.sampler = make_sampler("tpe", seed=0, trial=number, fixed={}, parameter=name)
            return suggest(trial, name, distribution)

        params = get_space("fnn").draw(draw)
        for epoch in (1, 2, 3):
            trial.report(score(params, epoch), epoch)
        whole.tell(trial, score(params, 3))
    assert [t.params for t in parts.trials()] == [t.params for t in whole.trials]


def test_a_queued_point_takes_no_draw_from_the_sampler(lab):
    def drawn(study):  # where Optuna's sampler counts the points of its sequence
        return [
            key
            for key in study.storage.get_study_system_attrs(study.study._study_id)
            if "qmc" in key
        ]

    _, study = lab(trials=1, sampler="qmc")
    study.study.enqueue_trial({**get_space("fnn").baseline, "units_1": 99})
    _, study = lab(trials=2, sampler="qmc")
    assert study.trial(1).params["units_1"] == 99
    assert not drawn(study)
    _, study = lab(trials=3, sampler="qmc")
    assert drawn(study)


def test_the_value_of_a_trial_is_its_best_validation_accuracy(lab):
    _, study = lab(trials=1)
    assert study.trial(0).value == pytest.approx(score(study.trial(0).params, 3))


def test_the_history_of_a_trial_is_in_the_ledger_before_it_ends(lab):
    _, study = lab(trials=1)
    history = study.trial(0).history
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert reported(study, 0) == {e.epoch: e.val_accuracy for e in history}


def test_every_epoch_is_told_to_the_tracker_once(lab):
    lab(trials=2)
    steps = {run: [epoch for epoch, _ in rows] for run, rows in lab.tracker.epochs.items()}
    assert steps == {"run-0": [1, 2, 3], "run-1": [1, 2, 3]}


def test_every_run_is_closed_with_its_artifacts(lab):
    lab(trials=3)
    assert lab.tracker.open == {}
    assert [outcome.state for _, outcome in lab.tracker.closed] == ["complete"] * 3
    assert lab.tracker.artifacts == [["curves.png"]] * 3


def test_a_hopeless_trial_is_pruned_between_epochs(lab):
    result, study = lab(trials=20, epochs=4, pruner="median")
    pruned = [trial for trial in study.trials() if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(max(trial.reported) < 4 for trial in pruned)
    assert result.best.state == TrialState.COMPLETE
    assert {o.state for _, o in lab.tracker.closed} == {"complete", "pruned"}


def test_a_failed_trial_does_not_end_the_sweep(lab):
    result, study = lab(FakeExecutor(results={1: diverged(1)}), trials=3)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert result.reasons == {"diverged": 1}
    assert lab.tracker.closed[1][1].reason == "diverged"


def test_too_many_failures_in_a_row_end_the_sweep(lab):
    failures = {t: crash(t) for t in range(9)}
    result, study = lab(FakeExecutor(results=failures), trials=9, max_failures=3)
    assert states(study) == ["FAIL"] * 3
    assert result.stopped == Stopped(StopReason.FAILURES, "3 trials in a row failed")
    assert lab.tracker.summaries[-1].state == "failed"


def test_a_sweep_of_which_every_trial_failed_has_not_succeeded(lab):
    failures = {t: diverged(t) for t in range(3)}
    result, _ = lab(FakeExecutor(results=failures), trials=3)
    assert result.stopped == Stopped(StopReason.ALL_FAILED, "all 3 trials failed")
    assert lab.tracker.summaries[-1].state == "failed"


def test_a_trial_that_was_cut_off_while_it_drew_draws_as_it_would_have(lab):
    _, study = lab(trials=3, sampler="random")
    expected = study.trial(2).params
    optuna.delete_study(study_name="s", storage=study.storage)
    lab(trials=2, sampler="random")
    _, study = lab(trials=2, sampler="random")
    study.study.ask()  # a trial that is running and has drawn nothing
    _, study = lab(trials=3, sampler="random")
    assert study.trial(2).params == expected


def test_a_tracker_that_fails_changes_nothing_but_what_it_lacks(lab):
    def fail(_):
        raise RuntimeError("no tracker")

    lab.tracker.fault = fail
    result, study = lab(trials=2)
    assert states(study) == ["COMPLETE"] * 2
    assert (result.lag.items, result.lag.why) == (5, "RuntimeError: no tracker")
    lab.tracker.fault = lambda _: None
    result, _ = lab(trials=2)
    assert lab.tracker.states == {0: "complete", 1: "complete"}
    assert sorted(lab.tracker.models) == [0, 1]
    assert result.lag.items == 0


def test_a_tracker_that_fails_and_works_again_is_in_the_news(lab):
    left = [3]

    def fail_three_times(_):
        if left[0]:
            left[0] -= 1
            raise RuntimeError("no tracker")

    lab.tracker.fault = fail_three_times
    seen = []

    result, _ = lab(FakeExecutor(on_epoch=lambda *_: time.sleep(0.3)), trials=5,
                    listener=lambda p: seen.append(p.news))  # fmt: skip
    assert result.lag.items == 0
    said = [str(news) for news in seen if news and news.kind is NewsKind.TRACKING]
    assert "tracking fails, training goes on" in said[0]
    assert lab.tracker.states == dict.fromkeys(range(5), "complete")


@pytest.mark.parametrize("value", [math.inf, math.nan, 1.7, -0.1])
def test_an_impossible_accuracy_is_a_failure_and_never_best(lab, value):
    result, study = lab(FakeExecutor(results={1: finished(1, 3, value)}), trials=3)
    assert states(study)[1] == "FAIL"
    assert study.trial(1).reason == "invalid"
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
    assert (result.stopped, result.signal) == (INTERRUPTED, 130)
    assert lab.tracker.closed[-1][1].state == "interrupted"
    assert lab.tracker.summaries[-1].state == "interrupted"


def test_a_resumed_trial_keeps_its_number_and_parameters(lab):
    stop = StopRequest()
    lab(FakeExecutor(on_epoch=lambda t, e: t == 1 and e == 2 and stop(2, None)), stop=stop)
    executor = FakeExecutor()
    result, study = lab(executor)
    assert states(study) == ["COMPLETE"] * 6
    assert executor.jobs[0].trial == 1
    assert executor.jobs[0].params == study.trial(1).params
    assert result.finished == 6
    assert lab.tracker.records[1][-1].attempt == 2
    told = [outcome.state for run, outcome in lab.tracker.closed if run == "run-1"]
    assert told[-1] == "complete"
    assert set(told[:-1]) == {"interrupted"}


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


def test_a_resumed_trial_trains_only_what_is_missing(lab):
    stop = StopRequest()
    lab(FakeExecutor(on_epoch=lambda t, e: t == 1 and e == 2 and stop(2, None)), stop=stop)
    trained = []
    _, study = lab(FakeExecutor(on_epoch=lambda t, e: trained.append((t, e))))
    assert trained[0] == (1, 3)
    assert [epoch.epoch for epoch in study.trial(1).history] == [1, 2, 3]
    assert [epoch for epoch, _ in lab.tracker.epochs["run-1"]] == [1, 2, 3]


def test_an_epoch_that_is_in_its_checkpoint_but_not_in_the_ledger_is_recorded_once(lab):
    stop = StopRequest()
    lab(FakeExecutor(on_epoch=lambda t, e: t == 1 and e == 2 and stop(2, None)), stop=stop)
    lab.checkpoints[1].append(epoch_metrics(3, 0.5))  # cut off before the supervisor heard of it
    _, study = lab()
    assert reported(study, 1)[3] == 0.5
    assert [epoch for epoch, _ in lab.tracker.epochs["run-1"]] == [1, 2, 3]


def test_epochs_behind_the_ledger_are_trained_again_recorded_once_and_counted(lab):
    stop = StopRequest()
    lab(FakeExecutor(on_epoch=lambda t, e: t == 1 and e == 2 and stop(2, None)), stop=stop)
    del lab.checkpoints[1][0:]  # both checkpoints are lost
    _, study = lab()
    assert study.trial(1).retrained == 2
    assert [epoch for epoch, _ in lab.tracker.epochs["run-1"]] == [1, 2, 3]
    assert lab.tracker.records[1][-1].retrained in (0, 2)
    assert study.trial(1).state == TrialState.COMPLETE


def test_a_crash_is_retried_once_and_then_the_trial_fails(lab):
    executor = FakeExecutor(results={1: [crash(1)]})
    _, study = lab(executor, trials=3)
    assert states(study) == ["COMPLETE"] * 3
    assert [job.trial for job in executor.jobs] == [0, 1, 1, 2]
    assert study.trial(1).retried == ("crashed",)
    assert study.trial(1).attempt == 2
    assert executor.jobs[1] == executor.jobs[2]


@pytest.mark.parametrize(
    ("reason", "retries", "attempts"),
    [
        ("crashed", 0, 1),
        ("crashed", 1, 2),
        ("crashed", 3, 4),
        ("out_of_memory", 0, 1),
        ("out_of_memory", 3, 2),
        ("diverged", 3, 1),
        ("timeout", 3, 1),
        ("invalid", 3, 1),
        ("error", 3, 1),
    ],
)
def test_every_reason_has_its_retry_rule(lab, reason, retries, attempts):
    failure = TrialFailed(trial=1, reason=FailureReason(reason), detail="why")
    executor = FakeExecutor(results={1: failure})
    _, study = lab(executor, trials=3, retries=retries)
    assert [job.trial for job in executor.jobs].count(1) == attempts
    assert study.trial(1).reason == reason
    assert lab.tracker.states[1] == "failed"


def test_a_full_disk_stops_the_sweep_and_keeps_the_trial_to_resume(lab):
    full = TrialFailed(trial=1, reason=FailureReason.DISK_FULL, detail="/there: 0 bytes free")
    result, study = lab(FakeExecutor(slots=2, results={1: [full]}), trials=6)
    assert result.stopped == Stopped(StopReason.DISK, "disk_full (/there: 0 bytes free)")
    assert len(states(study)) == 2
    assert lab.tracker.states[1] == "interrupted"
    result, study = lab()
    assert states(study) == ["COMPLETE"] * 6


def test_a_trial_that_takes_too_long_is_killed_and_fails(lab):
    executor = FakeExecutor(on_epoch=lambda t, e: time.sleep(0.6) if t == 1 else None)
    _, study = lab(executor, trials=3, trial_timeout=0.5)
    assert states(study)[1] == "FAIL"
    assert study.trial(1).reason == "timeout"
    assert "longer than 0.5 s" in study.trial(1).detail


def test_a_wait_for_a_free_worker_is_reported_once(lab, monkeypatch):
    monkeypatch.setattr("mnist_lab.sweep.progress.WAITING_SECONDS", 0.0)

    class Busy(FakeExecutor):
        turns = 0

        def next_event(self, timeout):
            self.turns += 1
            return super().next_event(timeout) if self.turns > 3 else None

    seen = []
    lab(Busy(), trials=1, listener=lambda progress: seen.append(progress.news))
    waits = [str(news) for news in seen if news and news.kind is NewsKind.WAITING]
    assert waits == ["1 trial waits for a free worker"]


@pytest.mark.parametrize("value", [math.inf, math.nan, 1.7, -0.1])
def test_an_impossible_epoch_is_refused_and_its_trial_fails(lab, value):
    class Impossible(FakeExecutor):
        def _announce(self, trial):
            if trial == 1:
                done = self.checkpoints[trial]
                done[-1] = replace(done[-1], val_accuracy=value)
            super()._announce(trial)

    result, study = lab(Impossible(), trials=3)
    assert reported(study, 1) == {}
    assert study.trial(1).reason == "invalid"
    assert result.best.number != 1


def test_sigterm_is_given_some_seconds_and_then_the_epoch_is_left(lab, monkeypatch):
    monkeypatch.setattr("mnist_lab.sweep.signals.SIGTERM_GRACE_SECONDS", 0.2)
    stop = StopRequest()

    class Hanging(FakeExecutor):
        def next_event(self, timeout):
            if stop.requested:
                time.sleep(0.05)
                return None
            return super().next_event(timeout)

    with pytest.raises(KeyboardInterrupt):
        lab(Hanging(on_epoch=lambda t, e: e == 2 and stop(15, None)), stop=stop)
    assert lab.tracker.states == {0: "interrupted"}


def test_what_a_killed_supervisor_left_open_is_closed_when_it_is_resumed(lab):
    class Killed(BaseException):
        pass

    def die(progress):
        if progress.finished == 1:
            raise Killed

    tracker = lab.tracker
    tracker.fault = lambda name: time.sleep(0.01)
    with pytest.raises(Killed):
        lab(trials=2, listener=die)
    tracker.states[0] = "running"  # as if it had died before it could tell
    _, study = lab(trials=2)
    assert states(study) == ["COMPLETE"] * 2
    assert tracker.open == {}


def test_the_best_models_are_logged_and_the_others_are_deleted(lab):
    _, study = lab(trials=6, keep_models=2)
    best = [trial.number for trial in study.ranked()[:2]]
    assert sorted(lab.tracker.models) == sorted(best)
    assert not list(lab.work.glob("trial-*"))


def test_a_model_is_not_logged_twice_by_a_resumed_sweep(lab):
    lab(trials=3, keep_models=1)
    lab(trials=3, keep_models=1)
    assert len(lab.tracker.models) == 1


def test_no_trial_is_begun_after_the_timeout(lab):
    result, study = lab(timeout=-1.0)
    assert states(study) == ["WAITING"]
    assert result.stopped == Stopped(StopReason.TIMEOUT, "the timeout of -1 s has passed")


def test_the_listener_sees_counts_best_and_time_left(lab):
    seen = []
    lab(trials=3, listener=seen.append)
    last = seen[-1]
    assert (last.finished, last.total, last.complete) == (3, 3, 3)
    assert last.best == (last.best[0], pytest.approx(max(score({}, 3), last.best[1])))
    assert last.seconds_left == 0
    assert str(seen[0].news) == "trial 0 started on worker 0"


def test_the_time_left_is_judged_by_epochs_where_trials_end_late(lab):
    seen = []
    lab(trials=9, epochs=9, pruner="halving", listener=seen.append)
    first = next(each for each in seen if each.seconds_left is not None)
    assert first.finished == 0
    assert first.seconds_left > 0
    assert seen[-1].seconds_left == 0


def test_the_summary_has_counts_best_and_a_table(lab):
    lab(trials=12)
    summary = lab.tracker.summaries[-1]
    assert summary.metrics["trials_complete"] == 12
    assert summary.tags["best_trial"]
    assert "| trial | val_accuracy |" in summary.note
    assert "12 complete" in summary.note
    first, share = next(iter(summary.importances.items()))
    assert f"(PED-ANOVA): {first} {share:.0%}" in summary.note
    assert sum(summary.importances.values()) == pytest.approx(1.0)


def test_a_resumed_trial_keeps_its_seed_whatever_the_sweep_is_given(lab):
    stop = StopRequest()
    first = FakeExecutor(on_epoch=lambda t, e: t == 1 and e == 2 and stop(2, None))
    lab(first, stop=stop)
    second = FakeExecutor()
    lab(second, seed=77)
    assert second.jobs[0] == first.jobs[1]


def test_a_model_dropped_for_a_better_one_takes_no_unfinished_trials_checkpoints_with_it(lab):
    stop = StopRequest()
    lab(FakeExecutor(on_epoch=lambda t, e: t == 1 and e == 2 and stop(2, None)), stop=stop)
    folder = lab.work / "trial-0001"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"half")
    TrialFiles(lab.work).begin(1)
    (folder / "model.keras").write_bytes(b"half again")
    full = TrialFailed(trial=1, reason=FailureReason.DISK_FULL, detail="x")
    lab(FakeExecutor(slots=2, results={1: [full]}), keep_models=0)
    assert (folder / "checkpoints").is_dir()


def test_a_pruners_verdict_outlives_a_crash(lab, monkeypatch):
    asked = []

    def prune_once(_, number):
        asked.append(number)
        return number == 1 and asked.count(1) == 1

    monkeypatch.setattr(Ledger, "should_prune", prune_once)

    class CrashesAfterPruning(FakeExecutor):
        crashed = False

        def decide(self, trial, decision):
            if trial == 1 and decision.name == "PAUSE" and not self.crashed:
                self.crashed = True
                self._end(crash(1, "during the evaluation"))
                return
            super().decide(trial, decision)

    _, study = lab(CrashesAfterPruning(), trials=3, pruner="median")
    assert states(study) == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert study.trial(1).reported == {1}


def test_a_trial_that_takes_its_supervisor_down_again_and_again_fails_in_the_end(lab):
    class Down(BaseException):
        pass

    def die(progress):
        if "trial 1 started" in str(progress.news):
            raise Down

    class Dead(FakeExecutor):
        def submit(self, job):
            super().submit(job)
            if job.trial == 1:
                self.checkpoints[1] = []  # it never gets as far as an epoch

    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrialWriter, "left", lambda _: None)  # who is dead writes nothing
            with pytest.raises(Down):
                lab(Dead(), listener=die)
    _, study = lab()
    assert study.trial(1).reason == "crashed"
    assert "3 attempts came no further" in study.trial(1).detail
    assert states(study).count("COMPLETE") == 5


def test_after_ctrl_c_a_crash_is_not_retried_but_left_to_the_next_sweep(lab):
    stop = StopRequest()

    class Crashing(FakeExecutor):
        def decide(self, trial, decision):
            if trial == 1:
                stop(2, None)
                self._end(crash(1))
                return
            super().decide(trial, decision)

    result, study = lab(Crashing(), stop=stop)
    assert states(study) == ["COMPLETE", "RUNNING"]
    assert study.trial(1).retried == ()
    assert result.signal == 130


def test_when_the_storage_is_lost_the_tracker_is_told_that_the_trial_was_interrupted(lab):
    def lose(self, *_, **__):
        raise optuna.exceptions.StorageInternalError("gone")

    with pytest.MonkeyPatch.context() as patch:

        def pull_the_plug(trial, epoch):
            if (trial, epoch) == (1, 2):
                for name in ("get_all_trials", "set_trial_user_attr", "get_trial"):
                    patch.setattr(optuna.storages._cached_storage._CachedStorage, name, lose)

        with pytest.raises(optuna.exceptions.StorageInternalError):
            lab(FakeExecutor(on_epoch=pull_the_plug))
    assert lab.tracker.open == {}
    assert lab.tracker.states == {0: "complete", 1: "interrupted"}
    assert lab.tracker.summaries[-1].state == "interrupted"


def epochs_of(study):
    return [len(trial.history) for trial in study.trials()]


def test_halving_trains_few_trials_to_the_end_and_prunes_the_others(lab):
    result, study = lab(trials=9, epochs=9, pruner="halving")
    assert result.finished == 9
    assert states(study).count("COMPLETE") < 4
    assert set(states(study)) == {"COMPLETE", "PRUNED"}
    assert set(epochs_of(study)) <= {1, 3, 9}


def test_a_promoted_trial_goes_on_from_its_checkpoint_in_the_same_attempt(lab):
    executor = FakeExecutor()
    _, study = lab(executor, trials=9, epochs=9, pruner="halving")
    began = [job.trial for job in executor.jobs]
    again = {trial for trial in began if began.count(trial) > 1}
    assert again
    assert {study.trial(trial).attempt for trial in again} == {1}
    # Nothing was trained twice: there are as many checkpoints as epochs in the ledger.
    assert [len(lab.checkpoints[trial]) for trial in range(9)] == epochs_of(study)


def test_a_pruned_trial_keeps_no_files(lab):
    _, study = lab(trials=9, epochs=9, pruner="halving")
    pruned = [trial.number for trial in study.trials() if trial.state == TrialState.PRUNED]
    assert pruned
    assert not [trial for trial in pruned if (lab.work / f"trial-{trial:04d}").exists()]


def test_a_pruned_trial_has_the_figures_of_its_epochs(lab):
    _, study = lab(trials=9, epochs=9, pruner="halving")
    trial = next(trial for trial in study.trials() if trial.state == TrialState.PRUNED)
    assert trial.scalars["best_val_accuracy"] == max(reported(study, trial.number).values())
    assert lab.tracker.states[trial.number] == "pruned"


def test_a_halving_sweep_that_was_stopped_ends_as_one_that_was_not(lab, tmp_path, small_dataset):
    def stop_after(count):
        stop, told = StopRequest(), []

        def listener(progress):
            told.append(progress.news and progress.news.kind)
            if told.count(NewsKind.EPOCH) >= count and not stop.requested:
                stop(2, None)

        return {"stop": stop, "listener": listener}

    for count in (1, 2, 3, 7, 5):  # in the baseline, between and at rungs; in others
        result, _ = lab(trials=9, epochs=9, pruner="halving", **stop_after(count))
        assert result.stopped == INTERRUPTED
    result, study = lab(trials=9, epochs=9, pruner="halving")
    assert epochs_of(study)[0] == 9
    assert result.finished == 9
    assert "RUNNING" not in states(study)
    assert set(epochs_of(study)) <= {1, 3, 9}
    best = max(study.study.trials, key=lambda trial: max(trial.intermediate_values.values()))
    assert best.state == TrialState.COMPLETE


@pytest.mark.slow
def test_a_trial_to_be_pruned_is_finished_now_and_then_to_see_whether_that_was_right(lab):
    _, study = lab(trials=40, epochs=3, pruner="halving", sampler="random")
    audited = [trial for trial in study.trials() if trial.audited_at is not None]
    assert audited
    assert {(trial.state, len(trial.reported)) for trial in audited} == {(TrialState.COMPLETE, 3)}


def test_with_two_workers_halving_leaves_nobody_waiting(lab):
    result, study = lab(FakeExecutor(slots=2), trials=12, epochs=9, pruner="halving")
    assert result.finished == 12
    assert "RUNNING" not in states(study)


@pytest.mark.slow
def test_the_report_counts_what_pruning_saved_and_what_it_may_have_cost(lab):
    _, study = lab(trials=40, epochs=3, pruner="halving", sampler="random")
    report = report_pruning(study)
    assert report.trained == sum(epochs_of(study))
    assert report.saved == 2 * states(study).count("PRUNED")
    assert report.trained + report.saved == 40 * 3
    assert report.audited >= 1
    assert report.false == 0  # the fake's first epoch ranks as its last does
    assert "0 ended better than the best that was kept" in str(report)


def test_a_study_without_pruning_has_nothing_to_report(lab):
    _, study = lab()
    assert report_pruning(study) is None


def test_a_trial_whose_end_was_not_written_is_left_to_be_resumed(lab, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lab(trials=1)
    assert lab.tracker.states == {0: "interrupted"}
    result, study = lab(trials=2)
    assert states(study) == ["COMPLETE"] * 2
    assert result.stopped is None
    assert study.trial(0).attempt == 2


def test_a_study_whose_last_end_was_not_written_is_not_complete(lab, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab(trials=1)
    assert lab.tracker.summaries[-1].state == "interrupted"
