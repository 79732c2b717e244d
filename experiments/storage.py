"""What a study's storage costs: ms a trial, the first reading of 10,000 trials, and a kill -9.

    python experiments/storage.py                        # all parts, a quarter of an hour
    python experiments/storage.py --parts trials tpe     # four minutes
    python experiments/storage.py --parts trials --server postgresql+psycopg://...

Five storages of one study: Optuna's RDBStorage on SQLite and mnist-lab's single writer, each with
SQLite's default journal and with WAL (synchronous=FULL in all), and Optuna's JournalStorage. Cells
are measured in turns, in a new order each turn, so that other work on the machine slows all alike.

- trials: ms from asking for a trial to its end, without training: 8 parameters, 10 epochs of
  value and history, two pauses, 8 more attributes; with nothing beside, beside two processes that
  write and sync 10 MB once a second, and beside two that do so without a pause.
- reading: seconds to open a study of 10,000 such trials and list them, in a new process.
- kills: a writer is killed with SIGKILL; is every write that had returned still there?
- torn: the newest write is cut in half, as by a power failure.
- tpe: ms that TPE takes for 8 parameters after 200 trials, with and without SciPy's log_ndtr.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mnist_lab.settings import Settings
from mnist_lab.study._optuna import SingleWriterStorage
from mnist_lab.study.storage import connect

KINDS = ("optuna", "optuna+wal", "single", "single+wal", "journal")
SERVER_KINDS = ("optuna+server", "single+server")
BESIDE = ("nothing", "a checkpoint a second", "checkpoints all the time")
COPIED = "journal, copied by Optuna"  # a line a trial, as no sweep writes it
PARTS = ("trials", "reading", "kills", "torn", "tpe")
MEGABYTES = 10
CHOICES = ("relu", "elu", "selu", "gelu")


def open_storage(kind: str, folder: Path, server: str = "") -> BaseStorage:
    if kind in {"journal", COPIED}:
        return JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    settings = Settings(home=folder, storage_override=server or None)
    if kind.startswith("single"):
        storage = connect(settings)
    else:
        options = {} if server else {"connect_args": {"timeout": 60}}
        storage = RDBStorage(settings.storage, engine_kwargs=options)
    if not server:
        set_journal(storage.engine, "wal" if kind.endswith("wal") else "delete")
    return SingleWriterStorage(storage) if kind.startswith("single") else storage


def set_journal(engine: sqlalchemy.Engine, mode: str) -> None:
    def on_connect(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("PRAGMA synchronous=FULL")

    sqlalchemy.event.listen(engine, "connect", on_connect)
    engine.dispose()  # the connection that made the schema has not been told


# One trial, with the reads and writes of mnist-lab's supervisor


def epoch_facts(epoch: int) -> dict[str, float]:
    return {
        "epoch": epoch, "loss": 0.1234567, "accuracy": 0.9345678, "val_loss": 0.123456,
        "val_accuracy": 0.912345 + epoch / 1000, "seconds": 9.1234567,
        "timestamp": 1764000000.123456 + epoch,
    }  # fmt: skip


def suggest_all(trial: optuna.Trial, look: Any = lambda: None) -> None:
    for name in ("learning_rate", "weight_decay"):
        look()
        trial.suggest_float(name, 1e-5, 1e-1, log=True)
    for name in ("dropout", "label_smoothing"):
        look()
        trial.suggest_float(name, 0.0, 0.5)
    for name in ("units_1", "units_2"):
        look()
        trial.suggest_int(name, 16, 1024, log=True)
    for name in ("activation", "optimizer"):
        look()
        trial.suggest_categorical(name, CHOICES)


def run_trial(study: optuna.Study, *, epochs: int = 10, pauses: tuple[int, ...] = (1, 3)) -> int:
    def look() -> None:  # the supervisor reads the trial before each parameter
        study.get_trials(deepcopy=False)

    study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    trial = study.ask()
    suggest_all(trial, look)
    start = {"seed": trial.number, "attempt": 1, "fruitless": 0, "epochs": 0}
    trial.set_user_attr("start", start)
    trial.set_user_attr("form", {"images": "float32", "labels": "integers", "output": "softmax"})
    look()
    history = []
    for epoch in range(1, epochs + 1):
        history.append(epoch_facts(epoch))
        trial.report(history[-1]["val_accuracy"], epoch)
        trial.set_user_attr("history", history)
        look()
        if epoch in pauses:
            trial.set_user_attr("start", {**start, "epochs": -1})
            trial.set_user_attr("start", {**start, "epochs": epoch})
    if epochs == 10:
        trial.set_user_attr("scalars", {f"val_recall_{i}": 0.912345 for i in range(16)})
        trial.set_user_attr("environment", {"keras": "3.15.1", "threads": "1", "device": "cpu"})
        study.tell(trial, 0.9 + 0.09 * random.random())
        study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        study.set_user_attr(f"run:{trial.number}", {"run": "0123456789abcdef", "closed": True})
    return trial.number


def make_study(storage: BaseStorage, *, name: str = "s", paused: int = 30) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", sampler=sampler
    )
    for _ in range(paused):
        run_trial(study, epochs=3)
    return study


# Milliseconds a trial


def write_checkpoints(folder: str, wanted: Any, pause: float) -> None:
    content = os.urandom(MEGABYTES * 2**20)
    target = Path(folder) / f"checkpoint-{os.getpid()}"
    while True:
        wanted.wait()
        with target.with_suffix(".new").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        target.with_suffix(".new").rename(target)
        time.sleep(pause)


def measure_trials(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    kinds = [*KINDS, *(SERVER_KINDS if options.server else ())]
    events = {BESIDE[1]: multiprocessing.Event(), BESIDE[2]: multiprocessing.Event()}
    writers = [
        multiprocessing.Process(
            target=write_checkpoints, args=(str(folder), event, pause), daemon=True
        )
        for pause, event in zip((1.0, 0.0), events.values(), strict=True)
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    studies, transactions = {}, Counter()
    for kind in kinds:
        home = folder / kind
        home.mkdir()
        server = options.server if kind in SERVER_KINDS else ""
        storage = open_storage(kind, home, server)
        studies[kind] = make_study(storage, name=f"{kind} {time.time()}")
        count_transactions(storage, kind, transactions)
        run_trial(studies[kind])
    transactions.clear()
    wall, cpu = {}, {}
    for turn in range(options.turns):
        for beside in random.sample(BESIDE, len(BESIDE)):
            for name, event in events.items():
                (event.set if name == beside else event.clear)()
            time.sleep(1.0)
            for kind in random.sample(kinds, len(kinds)):
                began, began_cpu = time.perf_counter(), time.process_time()
                run_trial(studies[kind])
                cell = f"{kind} | {beside}"
                wall.setdefault(cell, []).append(1000 * (time.perf_counter() - began))
                cpu.setdefault(cell, []).append(1000 * (time.process_time() - began_cpu))
        print(f"trials: turn {turn + 1} of {options.turns}", file=sys.stderr, flush=True)
    for writer in writers:
        writer.terminate()
    trials = len(BESIDE) * options.turns
    return {
        "ms a trial": wall,
        "cpu ms a trial": cpu,
        "transactions a trial": {kind: [transactions[kind] / trials] for kind in kinds},
    }


def count_transactions(storage: BaseStorage, kind: str, seen: Counter[str]) -> None:
    if isinstance(storage, JournalStorage):
        backend = storage._backend
        append = backend.append_logs

        def counted(logs: list[dict[str, Any]]) -> None:
            seen[kind] += 1
            append(logs)

        backend.append_logs = counted
        return
    engine = getattr(storage, "_backend", storage).engine

    def on_write(_: Any, __: Any, statement: str, *___: Any) -> None:
        if not statement.startswith(("SELECT", "PRAGMA")):
            writing.add(1)

    def on_commit(_: Any) -> None:
        seen[kind] += bool(writing)
        writing.clear()

    writing: set[int] = set()
    sqlalchemy.event.listen(engine, "before_cursor_execute", on_write)
    sqlalchemy.event.listen(engine, "commit", on_commit)


# The first reading


def fill(kind: str, folder: Path, trials: int) -> None:
    """Make a study of one trial that ran, and repeat that trial's rows or lines."""
    folder.mkdir(parents=True)
    if kind == COPIED:
        source = open_storage("journal", folder.with_name(f"journal-{trials}"))
        with mock.patch("os.fsync"):  # only the result counts
            optuna.copy_study(
                from_study_name="s", from_storage=source, to_storage=open_storage(kind, folder)
            )
        return
    study = make_study(open_storage(kind, folder), paused=0)
    run_trial(study)
    if kind == "journal":
        path = folder / "optuna.log"
        lines = path.read_text().splitlines(keepends=True)
        with path.open("a") as file:
            for number in range(1, trials):
                for line in lines[1:]:  # the first makes the study
                    log = json.loads(line)
                    if "trial_id" in log:
                        log["trial_id"] = number
                    elif "user_attr" in log:
                        log["user_attr"] = {f"run:{number}": {"run": "0123", "closed": True}}
                    file.write(json.dumps(log, separators=(",", ":")) + "\n")
        return
    with sqlite3.connect(folder / "optuna.db") as database:
        numbers = (
            f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {trials})"
        )
        database.execute(
            f"INSERT INTO trials SELECT n.i, n.i - 1, study_id, state, datetime_start, "
            f"datetime_complete FROM ({numbers} SELECT i FROM n) n, trials"
        )
        for table in (
            "trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes",
        ):  # fmt: skip
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(name for name in columns[1:] if name != "trial_id")
            database.execute(
                f"INSERT INTO {table} (trial_id, {kept}) SELECT n.i, {kept} "
                f"FROM ({numbers} SELECT i FROM n) n, {table} WHERE trial_id = 1"
            )
        database.execute(
            f"INSERT INTO study_user_attributes (study_id, key, value_json) SELECT study_id, "
            f"'run:' || (n.i - 1), value_json FROM ({numbers} SELECT i FROM n) n, "
            f"study_user_attributes"
        )


def read_once(kind: str, folder: str) -> None:
    began, began_cpu = time.perf_counter(), time.process_time()
    storage = open_storage(kind, Path(folder))
    study = optuna.load_study(study_name="s", storage=storage)
    count = len(study.get_trials(deepcopy=False))
    print(json.dumps([time.perf_counter() - began, time.process_time() - began_cpu, count]))


def measure_reading(options: argparse.Namespace) -> dict[str, Any]:
    kinds = [*KINDS, COPIED]
    sizes, wall, cpu = {}, {}, {}
    for kind in kinds:
        home = options.cache / f"{kind}-{options.trials}"
        if not home.exists():
            fill(kind, home, options.trials)
        path = home / ("optuna.log" if kind.startswith("journal") else "optuna.db")
        sizes[kind] = [path.stat().st_size / 2**20]
    for turn in range(options.turns):
        for kind in random.sample(kinds, len(kinds)):
            home = options.cache / f"{kind}-{options.trials}"
            seconds, of_cpu, count = json.loads(call_self("--read", kind, str(home)))
            assert count == options.trials, (kind, count)
            wall.setdefault(kind, []).append(seconds)
            cpu.setdefault(kind, []).append(of_cpu)
        print(f"reading: turn {turn + 1} of {options.turns}", file=sys.stderr, flush=True)
    title = f"to read {options.trials:,} trials"
    return {f"seconds {title}": wall, f"cpu seconds {title}": cpu, "MiB": sizes}


def call_self(*words: str) -> str:
    command = [sys.executable, __file__, *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


# A writer that is killed, and a write that is torn


def write_for_ever(kind: str, folder: str) -> None:
    """Count upwards in an attribute, and print each number when its write has returned."""
    study = make_study(open_storage(kind, Path(folder)), paused=0)
    trial = study.ask()
    for number in range(10**9):
        trial.set_user_attr("count", [number] * 50)
        print(number, flush=True)


def kill_writer(kind: str, folder: Path) -> int:
    """Kill a writer in mid-write; the last number whose write had returned."""
    folder.mkdir()
    command = [sys.executable, __file__, "--write", kind, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(random.uniform(0.2, 0.8))
        writer.send_signal(signal.SIGKILL)
        lines = [line for line in writer.stdout.read().split("\n")[:-1] if line]
    return int(lines[-1])


def measure_kills(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    lost, reading, writing, locks = {}, {}, {}, {}
    for turn in range(options.turns):
        for kind in random.sample(KINDS, len(KINDS)):
            home = folder / f"killed-{kind}-{turn}"
            acknowledged = kill_writer(kind, home)
            locks.setdefault(kind, []).append(float(Path(home / "optuna.log.lock").is_symlink()))
            began = time.perf_counter()
            study = optuna.load_study(study_name="s", storage=open_storage(kind, home))
            found = study.get_trials()[0].user_attrs["count"][0]
            reading.setdefault(kind, []).append(time.perf_counter() - began)
            lost.setdefault(kind, []).append(float(found < acknowledged))
            began = time.perf_counter()
            study.set_user_attr("first write", turn)
            writing.setdefault(kind, []).append(time.perf_counter() - began)
        print(f"kills: turn {turn + 1} of {options.turns}", file=sys.stderr, flush=True)
    return {
        "seconds to open after kill -9": reading,
        "seconds of the first write after kill -9": writing,
        "lock left behind (1 is yes)": locks,
        "acknowledged write lost (1 is yes)": lost,
    }


def tear(folder: Path) -> dict[str, list[str]]:
    """Cut the newest write of a journal and of a WAL in half, and say what is found."""
    return {"journal": tear_journal(folder), "optuna+wal": tear_wal(folder)}


def tear_journal(folder: Path) -> list[str]:
    home = folder / "torn-journal"
    kill_writer("journal", home)
    (home / "optuna.log.lock").unlink(missing_ok=True)
    path = home / "optuna.log"
    content = path.read_bytes()
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    os.truncate(path, start + (len(content) - start) // 2)
    found = []

    def attempt(words: str, do: Any) -> None:
        try:
            found.append(f"{words}: {do()}")
        except Exception as error:  # whatever happens is the finding
            found.append(f"{words}: {type(error).__name__}: {str(error)[:80]}")

    def load() -> optuna.Study:
        return optuna.load_study(study_name="s", storage=open_storage("journal", home))

    study = load()
    attempt("opened, trials", lambda: len(study.get_trials()))
    attempt("first write", lambda: study.set_user_attr("first", 1))
    attempt("read back by its writer", lambda: study.user_attrs)
    attempt("second write", lambda: study.set_user_attr("second", 2))
    attempt("opened again", lambda: load().user_attrs)
    return found


def tear_wal(folder: Path) -> list[str]:
    home = folder / "torn-wal"
    acknowledged = kill_writer("optuna+wal", home)
    path = home / "optuna.db-wal"
    size = path.stat().st_size
    database = home / "optuna.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        (before,) = reader.execute("SELECT value_json FROM trial_user_attributes").fetchone()
    # A WAL is written over from its start, so the newest frame is not the last of the file.
    found = [f"acknowledged {acknowledged}, in the file {json.loads(before)[0]}"]
    page, frame = newest_frame(path)
    with path.open("r+b") as file:
        file.seek(frame + (page + 24) // 2)
        file.write(bytes((page + 24) // 2))
    study = optuna.load_study(study_name="s", storage=open_storage("optuna+wal", home))
    found.append(f"opened, of {size} bytes, count {study.get_trials()[0].user_attrs['count'][0]}")
    study.set_user_attr("first", 1)
    again = optuna.load_study(study_name="s", storage=open_storage("optuna+wal", home))
    found.append(f"first write, opened again: {again.user_attrs}")
    with closing(sqlite3.connect(database)) as reader:
        (check,) = reader.execute("PRAGMA integrity_check").fetchone()
    return [*found, f"integrity_check: {check}"]


def newest_frame(path: Path) -> tuple[int, int]:
    """The page size of a WAL, and where its newest frame begins: the last with the header's salt."""
    content = path.read_bytes()
    page, salt = int.from_bytes(content[8:12], "big"), content[16:24]
    frames = range(32, len(content) - page - 23, page + 24)
    return page, max(at for at in frames if content[at + 8 : at + 16] == salt)


# TPE with another logarithm


def measure_tpe(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from optuna.samplers._tpe import _truncnorm
    from scipy.special import log_ndtr

    home = folder / "tpe"
    home.mkdir()
    study = make_study(open_storage("single+wal", home))
    for _ in range(200 - 30):
        run_trial(study)
    ways, wall, cpu = {"Optuna's": _truncnorm._log_ndtr, "SciPy's": log_ndtr}, {}, {}
    for turn in range(options.turns + 1):
        for way in random.sample(list(ways), len(ways)):
            _truncnorm._log_ndtr = ways[way]
            study.sampler = optuna.samplers.TPESampler(
                seed=turn, multivariate=True, group=True, constant_liar=True
            )
            began, began_cpu = time.perf_counter(), time.process_time()
            trial = study.ask()
            suggest_all(trial)
            if turn:  # the first warms up
                wall.setdefault(way, []).append(1000 * (time.perf_counter() - began))
                cpu.setdefault(way, []).append(1000 * (time.process_time() - began_cpu))
            study.tell(trial, 0.9)
    title = "ms of TPE for 8 parameters after 200 trials"
    return {title: wall, f"cpu {title}": cpu}


# Words


def show(results: dict[str, Any]) -> None:
    for title, cells in results.items():
        print(f"\n{title}")
        for cell, found in cells.items():
            if isinstance(found[0], str):
                print("\n".join([f"  {cell}", *(f"    {line}" for line in found)]))
            elif len(found) == 1:
                print(f"  {cell:50} {found[0]:9.1f}")
            else:
                low, middle, high = np.percentile(found, [25, 50, 75])
                print(f"  {cell:50} {middle:9.2f} ({low:.2f} to {high:.2f}), n={len(found)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--turns", type=int, default=9, help="measurements a cell")
    parser.add_argument("--trials", type=int, default=10_000, help="of the study that is read")
    parser.add_argument("--server", default="", help="a database server, measured too")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "mnist-lab-storage",
        help="where the studies to be read are kept",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print every measurement")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.read:
        return read_once(*options.read)
    if options.write:
        return write_for_ever(*options.write)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "trials" in options.parts:
            results |= measure_trials(options, folder)
        if "reading" in options.parts:
            results |= measure_reading(options)
        if "kills" in options.parts:
            results |= measure_kills(options, folder)
        if "torn" in options.parts:
            results |= {"after a torn write": tear(folder)}
        if "tpe" in options.parts:
            results |= measure_tpe(options, folder)
    if options.json:
        print(json.dumps(results))
    else:
        show(results)
    return None


if __name__ == "__main__":
    main()
