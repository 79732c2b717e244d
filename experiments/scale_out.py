"""What a cluster costs and what one supervisor can carry; on two nodes of this machine's own.

    python experiments/scale_out.py stub --trials 40 --client
    python experiments/scale_out.py sweep --trials 16 --epochs 2 --workers 2 --repeats 5
    python experiments/scale_out.py scale --slots 64 --trials 10000

``stub`` and ``sweep`` run the local executor and a cluster in turns; with ``--client`` a client, too.
``stub`` trains nothing: what is left is messages, files and the ledger. ``scale`` has no cluster: as
many slots as asked for answer at once, so that the supervisor is the bound, with its study in SQLite.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import deque
from contextlib import closing
from pathlib import Path
from statistics import median

from mnist_lab.config import SweepConfig
from mnist_lab.data import load_dataset
from mnist_lab.execution import (
    Decision,
    EpochFinished,
    Event,
    TrialFiles,
    TrialJob,
    TrialPaused,
    TrialStarted,
)
from mnist_lab.publish import BackgroundWriter
from mnist_lab.publish.writer import TrackerWriter
from mnist_lab.search import make_pruner, make_scheduler
from mnist_lab.settings import Settings
from mnist_lab.spaces import get_space
from mnist_lab.study import SingleWriterStorage, connect, create_study, make_record
from mnist_lab.sweep import launch
from mnist_lab.sweep.signals import StopRequest
from mnist_lab.sweep.supervisor import Supervisor
from mnist_lab.tracking import NullTracker

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
from overhead import stub  # noqa: E402 - beside this file

from cluster import Cluster  # noqa: E402 - lies there


def run(executor: str, options: argparse.Namespace, *, trainer: str) -> dict[str, float]:
    """One sweep: seconds to the first start and in all, and milliseconds a trial after it."""
    began, marks = time.monotonic(), {}

    def listen(progress) -> None:
        for word in ("started", "epoch 1/"):
            if f" {word}" in str(progress.news):
                marks.setdefault(word, time.monotonic())

    with tempfile.TemporaryDirectory() as home:
        config = SweepConfig(
            space="fnn",
            trials=options.trials,
            epochs=options.epochs,
            workers=options.workers,
            executor=executor,
            keep_models=0,
        )
        launch(config, Settings(home=Path(home)), listener=listen, trainer=trainer)
    ended = time.monotonic()
    return {
        "seconds": round(ended - began, 1),
        "first_epoch_s": round(marks["epoch 1/"] - began, 1),
        "ms_a_trial": round(1000 * (ended - marks["started"]) / options.trials, 1),
    }


def in_turns(options: argparse.Namespace, *, trainer: str) -> None:
    """Run all executors one after another, ``repeats`` times; print each and the medians."""
    cluster = Cluster(KERAS_BACKEND="tensorflow", PYTHONPATH=f"{HERE}:{HERE.parent / 'src'}")
    found: dict[str, list[dict[str, float]]] = {}
    try:
        for name in "ab"[: options.workers]:
            cluster.add(name)
        executors = {"local": "local", "cluster": cluster.address}
        if options.client:
            executors["client"] = cluster.client_address
        for repeat in range(options.repeats):
            for kind, executor in executors.items():
                measured = run(executor, options, trainer=trainer)
                found.setdefault(kind, []).append(measured)
                print(json.dumps({"repeat": repeat, "executor": kind, **measured}), flush=True)
    finally:
        cluster.close()
    for kind, each in found.items():
        middle = {name: median(one[name] for one in each) for name in each[0]}
        print(json.dumps({"median of": len(each), "executor": kind, **middle}), flush=True)


class InstantSlots:
    """An executor of many slots whose epochs take no time: only the supervisor is left."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._events: deque[Event] = deque()
        self._jobs: dict[int, TrialJob] = {}
        self._epochs: dict[int, int] = {}
        self.count = 0

    def start(self) -> None: ...

    def connect(self, timeout: float) -> bool:
        return True

    def submit(self, job: TrialJob) -> None:
        self._jobs[job.trial] = job
        self._events.append(TrialStarted(trial=job.trial, worker=job.trial % self.slots))
        self._advance(job)

    def next_event(self, timeout: float) -> Event | None:
        self.count += 1
        return self._events.popleft() if self._events else None

    def decide(self, trial: int, reply: Decision) -> None:
        if reply is Decision.PAUSE:
            self._events.append(TrialPaused(trial=trial))
            return
        self._advance(self._jobs[trial])

    def kill(self, why: object) -> None: ...

    def close(self) -> None: ...

    def _advance(self, job: TrialJob) -> None:
        """Put the trial's next epoch, or its end, among the events; as ``overhead.stub`` has it."""
        wanted = self._epochs.get(job.trial, 0) + 1
        reports: list[tuple] = []
        end = stub(job, None, reports.append)
        if wanted > job.epochs:
            self._events.append(end)
            return
        self._epochs[job.trial] = wanted
        self._events.append(EpochFinished(trial=job.trial, epochs=reports[wanted - 1]))


def scale(options: argparse.Namespace) -> None:
    """Print events and trials a second, by the number of trials that the study has."""
    dataset, space = load_dataset("digits"), get_space("fnn").shaped((8, 8))
    config = SweepConfig(
        space="fnn", trials=options.trials, epochs=options.epochs, sampler=options.sampler
    )
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        record = make_record("scale", config, space, dataset)
        study = create_study(
            SingleWriterStorage(connect(settings)),
            record,
            pruner=make_pruner(config.pruner, epochs=config.epochs),
        )
        files = TrialFiles(settings.work / "scale")
        executor = InstantSlots(options.slots)
        last = [time.monotonic(), 0, 0]

        def listen(progress) -> None:
            step = max(1, options.trials // 10)
            if progress.finished // step > last[1] // step:
                now = time.monotonic()
                trials, events = progress.finished - last[1], executor.count - last[2]
                seconds = now - last[0]
                print(
                    json.dumps({
                        "trials": progress.finished,
                        "ms_a_trial": round(1000 * seconds / trials, 1),
                        "events_a_second": round(events / seconds),
                    }),
                    flush=True,
                )  # fmt: skip
                last[:] = [now, progress.finished, executor.count]

        writer = BackgroundWriter(TrackerWriter(record, NullTracker, files))
        writer.start()
        supervisor = Supervisor(
            config=config,
            study=study,
            space=space,
            executor=executor,
            writer=writer,
            files=files,
            stop=StopRequest(),
            scheduler=make_scheduler(
                config.pruner, study, trials=config.trials, epochs=config.epochs, seed=0, exempt=()
            ),
            listener=listen,
        )
        with closing(executor):
            supervisor.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["stub", "sweep", "scale"])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--client", action="store_true")
    options = parser.parse_args()
    if options.what == "scale":
        scale(options)
    elif options.what == "stub":
        in_turns(options, trainer="overhead:stub")
    else:
        in_turns(options, trainer="mnist_lab.execution.trial:run_trial")


if __name__ == "__main__":
    main()
