"""``InlineExecutor``: one trial at a time in the caller's process, for debuggers and fast tests."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from functools import cached_property
from queue import Empty, SimpleQueue
from threading import Thread

from mnist_lab.data import Dataset, map_dataset
from mnist_lab.execution.messages import (
    Event,
    FailureReason,
    Reply,
    TrialFailed,
    TrialFinished,
    TrialJob,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.execution.worker import Paused, RunTrial, Supervised, WorkerSpec, load_trainer
from mnist_lab.training import configure

GRACE_SECONDS = 2.0


@dataclass(eq=False)
class _Channel:
    """The connection of a trial's thread to the supervisor, in place of a worker's pipe."""

    events: SimpleQueue[tuple[_Channel, Event]]
    replies: SimpleQueue[Reply | None] = field(default_factory=SimpleQueue)
    closed: bool = False

    def send(self, event: Event) -> None:
        if self.closed:
            raise Paused
        self.events.put((self, event))

    def recv(self) -> Reply:
        reply = self.replies.get()
        if reply is None:
            raise Paused
        return reply

    def close(self) -> None:
        self.closed = True
        self.replies.put(None)


class InlineExecutor:
    """An executor of one trial at a time in a thread of this process, for debuggers and prints.

    A thread cannot be killed: a trial that is killed is given up at once, and its thread ends with its
    next epoch or question. What crashes the trainer's process crashes the sweep; it can be resumed.
    """

    slots = 1

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._events: SimpleQueue[tuple[_Channel, Event]] = SimpleQueue()
        self._channel: _Channel | None = None
        self._trial = -1
        self._thread: Thread | None = None

    def start(self) -> None:
        return None

    def connect(self, timeout: float) -> bool:
        return True

    def submit(self, job: TrialJob) -> None:
        self._channel, self._trial = _Channel(self._events), job.trial
        arguments = (job, self._channel)
        self._thread = Thread(
            target=self._run, args=arguments, name=f"trial {job.trial}", daemon=True
        )
        self._thread.start()

    def next_event(self, timeout: float) -> Event | None:
        while True:
            try:
                channel, event = self._events.get(timeout=timeout)
            except Empty:
                return None
            if channel is self._channel:  # else of a trial that was given up
                if isinstance(event, TrialFinished | TrialFailed | TrialPaused):
                    self._channel = None
                return event

    def decide(self, trial: int, reply: Reply) -> None:
        if self._channel is not None and trial == self._trial:
            self._channel.replies.put(reply)

    def kill(self, why: TrialFailed) -> None:
        if self._channel is not None and why.trial == self._trial:
            self._channel.close()
            self._channel = _Channel(self._events)
            self._events.put((self._channel, why))

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._thread is not None:
            self._thread.join(GRACE_SECONDS)

    def _run(self, job: TrialJob, channel: _Channel) -> None:
        try:
            channel.send(TrialStarted(trial=job.trial, worker=self._spec.index))
            ended: Event = self._run_trial(job, self._dataset, Supervised(job.trial, channel))
        except Paused:
            ended = TrialPaused(trial=job.trial)
        except BaseException as error:  # a worker process would have died of it
            traceback.print_exc()
            detail = f"{type(error).__name__}: {error}"
            ended = TrialFailed(trial=job.trial, reason=FailureReason.CRASHED, detail=detail)
        if not channel.closed:
            self._events.put((channel, ended))

    @cached_property
    def _run_trial(self) -> RunTrial:
        try:
            configure(self._spec.runtime)
        except RuntimeError as error:
            # The caller may have used TensorFlow, which then keeps its threads.
            if "after initialization" not in str(error):
                raise
        return load_trainer(self._spec.trainer)

    @cached_property
    def _dataset(self) -> Dataset:
        return map_dataset(self._spec.dataset)
