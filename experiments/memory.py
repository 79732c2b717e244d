"""What the workers of a long sweep hold in memory, trial after trial, as a picture.

python experiments/memory.py --trials 60 --out experiments/pictures/memory.png
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
from matplotlib.figure import Figure

MIB = 2**20


def watch(process: subprocess.Popen) -> dict[int, list[tuple[float, float]]]:
    """MiB of every worker once a second, by process, until the sweep ends."""
    held: dict[int, list[tuple[float, float]]] = {}
    began = time.monotonic()
    while process.poll() is None:
        try:
            for child in psutil.Process(process.pid).children():
                if "resource_tracker" not in " ".join(child.cmdline()):
                    resident = child.memory_info().rss / MIB
                    held.setdefault(child.pid, []).append((time.monotonic() - began, resident))
        except psutil.Error:
            pass
        time.sleep(1)
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="cnn")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("memory.png"))
    options = parser.parse_args()
    words = ["sweep", options.space, "--trials", str(options.trials), "--pruner", "none"]
    words += ["--epochs", str(options.epochs), "--study", "memory"]
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [sys.executable, "-m", "mnist_lab", *words], cwd=home, stderr=subprocess.DEVNULL
        )
        held = watch(process)
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for pid, points in held.items():
        axes.plot(*zip(*points, strict=True), lw=0.8, label=f"worker {pid}")
    axes.set(xlabel="seconds", ylabel="resident memory, MiB", ylim=(0, None))
    axes.set_title(f"{options.trials} trials of {options.space}, {options.epochs} epoch each")
    axes.legend()
    figure.savefig(options.out, dpi=110)
    summary = {
        str(pid): {
            "from_s": round(points[0][0]),
            "to_s": round(points[-1][0]),
            "first_third_median": round(median(m for _, m in points[: len(points) // 3])),
            "last_third_median": round(median(m for _, m in points[-len(points) // 3 :])),
            "largest": round(max(m for _, m in points)),
        }
        for pid, points in held.items()
        if len(points) > 10
    }
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
