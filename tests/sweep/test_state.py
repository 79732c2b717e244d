"""The loop as a state machine: events in, lists of actions out; no process, thread, clock or file."""

from __future__ import annotations

from dataclasses import replace

import pytest
from optuna.trial import FrozenTrial, TrialState

from fakes import epoch_metrics, finished
from mnist_lab.config import SweepConfig
from mnist_lab.execution import (
    Decision,
    EpochFinished,
    FailureReason,
    ParameterAsked,
    TrialBuilt,
    TrialFailed,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.search import Choice
from mnist_lab.search.halving import Halving
from mnist_lab.study import INTERRUPTED, Stopped, StopReason, TrialFacts
from mnist_lab.sweep.actions import (
    Announce,
    AnswerQuestion,
    AnswerRefused,
    Complete,
    EpochsRecorded,
    Fail,
    Kill,
    Leave,
    NewsKind,
    OpenTrial,
    Prune,
    Publish,
    RecordEpochs,
    RecordForm,
    Reply,
    Retry,
    SlotsChanged,
    StopRequested,
    Submit,
    SweepBegan,
    TrialOpened,
    TrialOverdue,
)
from mnist_lab.sweep.state import SweepState
from mnist_lab.training.form import PLAIN

NEW = OpenTrial(Choice())
TIMEOUT = Stopped(StopReason.TIMEOUT, "the timeout of 5 s has passed")


def trial(number=0, state=TrialState.RUNNING, epochs=0, *, attempt=1, **attributes):
    """The facts of a trial with ``epochs`` epochs."""
    history = [vars(epoch_metrics(each, 0.5)) for each in range(1, epochs + 1)]
    start = {"seed": 0, "attempt": attempt, "fruitless": 0, "epochs": -1}
    frozen = FrozenTrial(
        number=number,
        state=state,
        value=0.5 if state == TrialState.COMPLETE else None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={"start": start, "history": history, **attributes},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )
    return TrialFacts.read(frozen)


def fresh(number):
    """A trial that no attempt was made at."""
    return replace(trial(number), attempt=0)


@pytest.fixture
def make():
    def make(trials=4, epochs=9, slots=1, before=(), rungs=(), asks=False, exempt=(), **config):
        scheduler = Halving(trials=trials, epochs=epochs, seed=1, rungs=rungs, exempt=exempt)
        config = SweepConfig(space="fnn", trials=trials, epochs=epochs, **config)
        return SweepState(config, scheduler, before, slots=slots, asks=asks)

    return make


def without_news(actions):
    return [each for each in actions if not isinstance(each, Announce)]


def news(actions):
    return [each.news.kind for each in actions if isinstance(each, Announce)]


def begin(state, number=0):
    state.handle(SweepBegan())
    return without_news(state.handle(TrialOpened(fresh(number))))


def epoch(state, number, epoch, accuracy=0.5):
    """What follows when a worker has finished an epoch and it is written."""
    last = epoch_metrics(epoch, accuracy)
    history = tuple(epoch_metrics(each, accuracy) for each in range(1, epoch + 1))
    assert without_news(state.handle(EpochFinished(trial=number, epochs=history))) == [
        RecordEpochs(number, history)
    ]
    facts = replace(trial(number), history=history)
    return state.handle(EpochsRecorded(facts, last))


def test_a_sweep_begins_with_a_trial_for_every_slot(make):
    assert make(slots=2).handle(SweepBegan()) == [NEW, NEW]


def test_no_more_trials_are_opened_than_are_wanted(make):
    assert make(trials=1, slots=3).handle(SweepBegan()) == [NEW]


def test_an_opened_trial_is_submitted_and_published(make):
    assert begin(make()) == [Submit(0), Publish(0, running=True)]


def test_a_trial_whose_parameters_are_asked_for_is_published_when_it_is_built(make):
    state = make(asks=True)
    assert begin(state) == [Submit(0)]
    form = PLAIN.to_dict()
    built = state.handle(TrialBuilt(trial=0, form=form))
    assert without_news(built) == [RecordForm(0, form), Publish(0, running=True)]


def test_a_question_is_answered(make):
    state = make(asks=True)
    begin(state)
    assert state.handle(ParameterAsked(trial=0, question=None)) == [AnswerQuestion(0, None)]


def test_a_value_that_is_refused_fails_the_trial_when_its_worker_has_left(make):
    state = make(trials=1, asks=True)
    begin(state)
    refused = without_news(state.handle(AnswerRefused(0, "units=9 is not allowed")))
    assert refused == [Reply(0, Decision.PAUSE)]
    failed = TrialFailed(trial=0, reason=FailureReason.INVALID, detail="units=9 is not allowed")
    assert without_news(state.handle(TrialPaused(trial=0))) == [
        Fail(failed),
        Publish(0, running=False),
    ]


def test_an_epoch_is_written_before_its_worker_is_answered_and_the_tracker_last(make):
    state = make()
    begin(state)
    assert without_news(epoch(state, 0, 1)) == [Reply(0, Decision.GO_ON), Publish(0, running=True)]


def test_an_impossible_epoch_is_not_written(make):
    state = make()
    begin(state)
    actions = state.handle(EpochFinished(trial=0, epochs=(epoch_metrics(1, 1.5),)))
    assert without_news(actions) == [Reply(0, Decision.PAUSE)]
    assert news(actions) == [NewsKind.REFUSED]


def test_a_finished_trial_is_completed_and_another_is_opened(make):
    state = make()
    begin(state)
    result = finished(0, 1, 0.9)
    actions = state.handle(result)
    assert without_news(actions) == [Complete(result, 0.9), Publish(0, running=False), NEW]
    assert news(actions) == [NewsKind.COMPLETE]


def test_a_result_that_no_accuracy_can_be_fails_the_trial(make):
    state = make(trials=1)
    begin(state)
    (fail, _), _ = without_news(state.handle(finished(0, 1, 1.2))), None
    assert isinstance(fail, Fail)
    assert fail.failed.reason == FailureReason.INVALID


def test_a_crash_is_retried_and_then_fails(make):
    state = make(trials=1, retries=1)
    begin(state)
    crashed = TrialFailed(trial=0, reason=FailureReason.CRASHED, detail="signal 9")
    actions = state.handle(crashed)
    assert without_news(actions) == [
        Retry(0, ("crashed",), 2),
        Submit(0),
        Publish(0, running=True),
    ]
    assert news(actions) == [NewsKind.RETRIED]
    assert without_news(state.handle(crashed)) == [Fail(crashed), Publish(0, running=False)]


@pytest.mark.parametrize("reason", ["diverged", "invalid", "error", "timeout"])
def test_what_would_happen_again_is_not_retried(make, reason):
    state = make(trials=1, retries=5)
    begin(state)
    failed = TrialFailed(trial=0, reason=FailureReason(reason), detail="")
    assert state.handle(failed)[0] == Fail(failed)


@pytest.mark.parametrize("reason", ["disk_full", "disk_error"])
def test_a_disk_that_cannot_be_written_stops_the_sweep_and_leaves_the_trial(make, reason):
    state = make()
    begin(state)
    failed = TrialFailed(trial=0, reason=FailureReason(reason), detail="4 bytes free")
    assert without_news(state.handle(failed)) == [Leave(0), Publish(0, running=False)]
    assert state.is_idle
    assert state.ended.reason is StopReason.DISK


def test_too_many_failures_in_a_row_open_no_further_trial(make):
    state = make(max_failures=2)
    state.handle(SweepBegan())
    for number in range(2):
        assert state.stopped is None
        state.handle(TrialOpened(fresh(number)))
        failed = TrialFailed(trial=number, reason=FailureReason.DIVERGED, detail="")
        actions = state.handle(failed)
    assert NEW not in actions
    assert state.ended.reason is StopReason.FAILURES
    assert str(state.ended) == "2 trials in a row failed"


def test_a_success_ends_the_count_of_failures_in_a_row(make):
    state = make(trials=5, max_failures=2)
    state.handle(SweepBegan())
    failed = TrialFailed(trial=0, reason=FailureReason.DIVERGED, detail="")
    for number, end in enumerate((failed, finished(1, 1, 0.5), replace(failed, trial=2))):
        state.handle(TrialOpened(fresh(number)))
        state.handle(end)
    assert state.stopped is None


def test_a_trial_that_is_overdue_is_killed(make):
    state = make(trial_timeout=5.0)
    begin(state)
    why = TrialFailed(trial=0, reason=FailureReason.TIMEOUT, detail="longer than 5 s")
    assert state.handle(TrialOverdue(0)) == [Kill(why)]


def test_after_a_stop_running_trials_are_left_with_their_epoch_and_none_is_opened(make):
    state = make(slots=2)
    begin(state)
    state.handle(StopRequested(INTERRUPTED))
    assert without_news(epoch(state, 0, 1))[0] == Reply(0, Decision.PAUSE)
    left = state.handle(TrialPaused(trial=0))
    assert without_news(left) == [Leave(0), Publish(0, running=False)]
    assert news(left) == [NewsKind.INTERRUPTED]


def test_after_the_time_limit_running_trials_train_to_their_end(make):
    state = make()
    begin(state)
    state.handle(StopRequested(TIMEOUT))
    assert without_news(epoch(state, 0, 1))[0] == Reply(0, Decision.GO_ON)
    assert NEW not in state.handle(finished(0, 9, 0.5))
    assert state.ended == TIMEOUT


def test_an_interruption_outranks_the_time_limit_and_a_full_disk_both(make):
    state = make()
    full = Stopped(StopReason.DISK, "disk_full")
    for stopped, expected in ((TIMEOUT, TIMEOUT), (INTERRUPTED, INTERRUPTED), (TIMEOUT, INTERRUPTED),
                              (full, full), (INTERRUPTED, full)):  # fmt: skip
        state.handle(StopRequested(stopped))
        assert state.stopped == expected


def test_a_worker_that_crashes_after_a_stop_leaves_its_trial_to_be_resumed(make):
    state = make(retries=0)
    begin(state)
    state.handle(StopRequested(INTERRUPTED))
    crashed = TrialFailed(trial=0, reason=FailureReason.CRASHED, detail="signal 9")
    assert without_news(state.handle(crashed)) == [Leave(0), Publish(0, running=False)]


def test_interrupted_trials_come_first(make):
    before = [trial(0, epochs=2), trial(1, TrialState.COMPLETE, epochs=9)]
    state = make(before=before)
    assert state.handle(SweepBegan()) == [OpenTrial(Choice(0), resumed=True)]
    assert state.finished == 1


def test_a_trial_that_never_comes_further_fails(make):
    stuck = replace(trial(0), attempts_without_progress=3)
    state = make(trials=1, before=[stuck])
    state.handle(SweepBegan())
    fail = state.handle(TrialOpened(stuck, attempt=4))[0]
    assert fail.failed.reason == FailureReason.CRASHED
    assert "3 attempts came no further" in fail.failed.detail


def test_a_trial_of_a_forbidden_point_fails_without_a_worker(make):
    state = make(trials=1)
    state.handle(SweepBegan())
    actions = state.handle(TrialOpened(fresh(0), refused="not allowed: too large"))
    assert [type(each) for each in actions] == [Fail, Publish, Announce]


def test_a_trial_that_the_scheduler_pauses_waits_and_makes_room(make):
    state = make(trials=6, rungs=(1,))
    begin(state)
    assert without_news(epoch(state, 0, 1))[0] == Reply(0, Decision.PAUSE)
    assert without_news(state.handle(TrialPaused(trial=0))) == [Leave(0, paused=True), NEW]
    assert list(state.scheduler.paused) == [0]


def test_what_is_paused_and_beaten_is_pruned_at_once(make):
    state = make(trials=3, rungs=(1,))
    state.handle(SweepBegan())
    state.handle(TrialOpened(fresh(0)))
    epoch(state, 0, 1, accuracy=0.4)
    state.handle(TrialPaused(trial=0))
    state.handle(TrialOpened(fresh(1)))
    actions = without_news(epoch(state, 1, 1, accuracy=0.6))
    assert Prune(0) in actions
    assert state.counts[TrialState.PRUNED] == 1


def test_what_is_still_paused_at_the_end_is_pruned(make):
    before = [trial(0, TrialState.COMPLETE, epochs=9), trial(1, epochs=1)]
    state = make(trials=2, before=before, rungs=(1,))
    state.scheduler.next = lambda *, new_wanted: None
    assert state.handle(SweepBegan()) == [Prune(1), Publish(1, running=False)]
    assert state.is_idle
    assert state.ended is None


def test_a_total_that_is_reached_asks_for_nothing(make):
    state = make(trials=1, before=[trial(0, TrialState.COMPLETE, epochs=9)])
    assert state.handle(SweepBegan()) == []
    assert state.is_idle
    assert state.ended is None


def test_a_sweep_whose_trials_all_failed_says_so(make):
    state = make(trials=1)
    begin(state)
    state.handle(TrialFailed(trial=0, reason=FailureReason.DIVERGED, detail=""))
    assert state.ended == Stopped(StopReason.ALL_FAILED, "all 1 trials failed")


def test_the_end_in_the_middle_of_epochs_leaves_every_running_trial(make):
    state = make(slots=2)
    state.handle(SweepBegan())
    state.handle(TrialOpened(fresh(0)))
    state.handle(TrialOpened(fresh(1)))
    assert state.leave_all() == [
        Leave(0),
        Publish(0, running=False),
        Leave(1),
        Publish(1, running=False),
    ]
    assert state.is_idle


def test_a_started_trial_is_news_only(make):
    state = make()
    begin(state)
    actions = state.handle(TrialStarted(trial=0, worker=3))
    assert news(actions) == [NewsKind.STARTED]
    assert without_news(actions) == []


def lost(number=0):
    return TrialFailed(trial=number, reason=FailureReason.NODE_LOST, detail="its node has died")


def test_a_lost_node_uses_up_no_retry_and_three_without_an_epoch_fail_the_trial(make):
    state = make(trials=1, retries=0)
    begin(state)
    assert isinstance(state.handle(lost())[0], Retry)
    assert isinstance(state.handle(lost())[0], Retry)
    epoch(state, 0, 1)  # it came further
    assert isinstance(state.handle(lost())[0], Retry)
    assert isinstance(state.handle(lost())[0], Retry)
    assert without_news(state.handle(lost())) == [Fail(lost()), Publish(0, running=False)]


def test_a_crash_after_a_lost_node_has_its_retries_still(make):
    state = make(trials=1, retries=1)
    begin(state)
    state.handle(lost())
    crashed = TrialFailed(trial=0, reason=FailureReason.CRASHED, detail="signal 9")
    assert state.handle(crashed)[0] == Retry(0, ("node_lost", "crashed"), 3)


def test_a_stop_takes_back_what_no_worker_has_begun(make):
    state = make(slots=2)
    begin(state)
    state.handle(TrialStarted(trial=0, worker=0))
    state.handle(TrialOpened(fresh(1)))
    (kill,) = without_news(state.handle(StopRequested(INTERRUPTED)))
    assert kill.why.trial == 1
    assert without_news(state.handle(StopRequested(INTERRUPTED))) == []
    assert without_news(state.handle(kill.why)) == [Leave(1), Publish(1, running=False)]


@pytest.mark.parametrize("reason", [StopReason.TIMEOUT, StopReason.DISK])
def test_whatever_stops_a_sweep_leaves_what_no_worker_has_begun(make, reason):
    state = make()
    begin(state)
    (kill,) = without_news(state.handle(StopRequested(Stopped(reason, "so"))))
    assert without_news(state.handle(kill.why)) == [Leave(0), Publish(0, running=False)]
    assert state.is_idle


def test_slots_that_are_added_are_filled_at_once(make):
    state = make(slots=1)
    begin(state)
    assert state.handle(SlotsChanged(3)) == [NEW, NEW]


def test_models_beyond_a_limit_are_expected_and_stop_no_sweep(make):
    state = make(trials=3, max_failures=1)
    for number in range(2):
        begin(state, number)
        beyond = TrialFailed(trial=number, reason=FailureReason.INFEASIBLE, detail="parameters 9")
        actions = state.handle(beyond)
        assert news(actions) == [NewsKind.REFUSED]
        assert Fail(beyond) in actions
    assert state.stopped is None
