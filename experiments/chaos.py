"""A real sweep whose supervisor or workers are killed again and again; then all is counted.

    python experiments/chaos.py --trials 30 --epochs 2 --kills 20
    python experiments/chaos.py --trials 30 --epochs 2 --kills 10 --cluster

With ``--cluster`` it sweeps on a Ray cluster of two nodes on this machine, and kills actors, nodes
(which come back) and supervisors.

Works in a new temporary folder, prints one line a kill and a summary as JSON; exits with 1 if anything
is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import median

import optuna
import psutil
from mlflow import MlflowClient

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from cluster import Cluster

STUDY = "chaos"


class Sweep:
    """The command in a process of its own; remembers when each trial said something."""

    def __init__(self, home: Path, words: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mnist_lab", *words],
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.last_word: dict[int, float] = {}
        self.last_epoch = 0.0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stderr:
            said = re.search(r"trial (\d+) (started|epoch)", line)
            if said:
                self.last_word[int(said[1])] = time.monotonic()
                if said[2] == "epoch":
                    self.last_epoch = time.monotonic()

    @property
    def workers(self) -> list[psutil.Process]:
        try:
            family = psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []
        return [each for each in family if "resource_tracker" not in " ".join(each.cmdline())]

    def wait_for_epoch(self, since: float, limit: float = 240) -> float | None:
        """Seconds from ``since`` to the next finished epoch; None if the sweep ended before."""
        deadline = time.monotonic() + limit
        while self.last_epoch <= since and time.monotonic() < deadline:
            if self.process.poll() is not None:
                return None
            time.sleep(0.05)
        return self.last_epoch - since


def kill_at_random(
    home: Path, words: list[str], kills: int, dice: random.Random, cluster: Cluster | None
) -> list[dict]:
    """Sweep until the command ends by itself; return what each kill cost."""
    told = []
    sweep = Sweep(home, words)
    sweep.wait_for_epoch(0.0)
    while len(told) < kills and sweep.process.poll() is None:
        time.sleep(dice.uniform(1, 30))
        victims = sweep.workers if cluster is None else actors(cluster)
        if sweep.process.poll() is not None or not victims:
            break
        who = dice.choice(["supervisor", "worker", *(["node"] if cluster else [])])
        now = time.monotonic()
        orphans = 0
        if who == "worker":
            dice.choice(victims).kill()
            lost = now - max(sweep.last_word.values(), default=now)
        elif who == "node":
            name = dice.choice(sorted(cluster.nodes))
            cluster.nodes.pop(name).kill()
            lost = now - max(sweep.last_word.values(), default=now)
            threading.Thread(target=cluster.add, args=(name,)).start()
        else:
            lost = now - max(sweep.last_word.values(), default=now)
            sweep.process.kill()
            sweep.process.wait()
            _, alive = psutil.wait_procs(victims, timeout=5)
            orphans = len(alive)
            sweep = Sweep(home, words)
        pause = sweep.wait_for_epoch(now)
        told.append(
            {"who": who, "epoch_lost": round(lost, 1), "orphans": orphans,
             "next_epoch_after": None if pause is None else round(pause, 1)}
        )  # fmt: skip
        print(f"kill {len(told)}: {told[-1]}", flush=True)
    while sweep.process.wait() != 0 and len(told) < 2 * kills:
        sweep = Sweep(home, words)
    return told


def actors(cluster: Cluster) -> list[psutil.Process]:
    """The processes of a cluster in which trials run."""
    found = []
    for node in list(cluster.nodes.values()):
        for pid in node.pids():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                if "ray::Slot" in " ".join(process.cmdline()):
                    found.append(process)
    return found


def compare(home: Path) -> dict:
    """The study, and every way in which MLflow differs from it."""
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{home}/optuna.db")
    client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name LIKE 'mnist-lab/%'")
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    trials = {
        int(run.data.tags["mnist_lab.trial"]): run
        for run in runs
        if run.data.tags["mnist_lab.level"] == "trial"
    }
    wrong = []
    expected = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
    for trial in study.trials:
        run = trials.get(trial.number)
        if run is None or run.info.status != expected.get(trial.state.name):
            wrong.append(f"trial {trial.number}: {run and run.info.status}")
            continue
        points = client.get_metric_history(run.info.run_id, "val_accuracy")
        steps = [(point.step, point.value) for point in points]
        if steps != sorted(trial.intermediate_values.items()):
            wrong.append(f"trial {trial.number}: curve {steps}")
        if run.data.params != {key: str(value) for key, value in trial.params.items()}:
            wrong.append(f"trial {trial.number}: params")
    return {
        "states": dict(Counter(trial.state.name for trial in study.trials)),
        "attempts": sum(trial.user_attrs["start"]["attempt"] for trial in study.trials),
        "epochs_trained_twice": sum(t.user_attrs.get("retrained", 0) for t in study.trials),
        "runs": len(runs),
        "running": [run.info.run_name for run in runs if run.info.status == "RUNNING"],
        "wrong": wrong,
        "best": study.best_value,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--space", default="cnn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--cluster", action="store_true")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    words = ["sweep", options.space, "--trials", str(options.trials), "--study", STUDY]
    words += ["--epochs", str(options.epochs), "--dataset", options.dataset]
    cluster = None
    if options.cluster:
        cluster = Cluster(KERAS_BACKEND="tensorflow")
        cluster.add("a")
        cluster.add("b")
        words += ["--executor", cluster.address, "--workers", "2"]
    began = time.monotonic()
    try:
        told = kill_at_random(home, words, options.kills, random.Random(options.seed), cluster)
    finally:
        if cluster is not None:
            cluster.close()
    seconds = time.monotonic() - began
    here = [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(home)]
    left = [each.pid for each in psutil.wait_procs(here, timeout=5)[1]]
    doctor = subprocess.run([sys.executable, "-m", "mnist_lab", "doctor"], cwd=home, check=False)
    pauses = [each["next_epoch_after"] for each in told if each["next_epoch_after"] is not None]
    summary = {
        **compare(home),
        "kills": dict(Counter(each["who"] for each in told)),
        "seconds": round(seconds),
        "median_epoch_lost_s": median(each["epoch_lost"] for each in told),
        "median_to_next_epoch_s": median(pauses),
        "orphans_after_5_s": sum(each["orphans"] for each in told),
        "processes_left": left,
        "doctor": doctor.returncode,
    }
    print(json.dumps(summary, indent=1))
    whole = sum(summary["states"].values()) == options.trials and set(summary["states"]) <= {
        "COMPLETE", "PRUNED", "FAIL",
    }  # fmt: skip
    fine = whole and not (summary["wrong"] or summary["running"] or left or doctor.returncode)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
