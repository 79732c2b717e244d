"""Screenshots of the pages, taken in a headless Chromium: ``make pictures``.

    python experiments/screenshots.py HOME [--out docs/pictures]

HOME has a swept and confirmed study, which is the latest. The pages are looked at by people; what a
program can check of them is in tests/report/test_pages.py.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Page, sync_playwright

MNIST_LAB = [sys.executable, "-m", "mnist_lab"]
UI_PORT, DASHBOARD_PORT = 5151, 8181
WAIT_SECONDS = 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    os.environ["MNIST_LAB_HOME"] = str(options.home.resolve())
    import mnist_lab as lab

    study = lab.open_study()
    report = study.report().file
    best, other = (row.trial for row in study.leaderboard[:2])
    compare = options.home.resolve() / "reports" / "compare.html"
    run("compare", study.name, str(best), str(other), "--html", str(compare))
    ui = subprocess.Popen(
        [*MNIST_LAB, "ui", "--port", str(UI_PORT)], stdout=subprocess.PIPE, text=True
    )
    dashboard = subprocess.Popen([*MNIST_LAB, "dashboard", "--port", str(DASHBOARD_PORT)])
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        link = next(line for line in ui.stdout or () if line.startswith("Study ")).split(": ", 1)[1]
        dashboard_at = f"http://127.0.0.1:{DASHBOARD_PORT}/"
        for address in (link, dashboard_at):
            wait_for(address)
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
            for name, address, width, height, scheme, wait in (
                ("table", link, 1500, 800, "light", 8),
                ("view", f"{link.strip()}&compareRunsMode=CHART", 1500, 860, "light", 10),
                ("report", report.as_uri(), 1180, 1330, "light", 1),
                ("report-dark", report.as_uri(), 1400, 1330, "dark", 1),
                ("report-600", report.as_uri(), 600, 1330, "light", 1),
                ("compare", compare.as_uri(), 1180, 1000, "light", 1),
                ("dashboard", f"{dashboard_at}dashboard/studies/1", 1500, 900, "light", 6),
            ):  # fmt: skip
                page = browser.new_page(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                page.goto(address.strip())
                page.wait_for_timeout(1000 * wait)
                close_assistant(page)
                if name == "compare":  # the pictures, below what differs
                    page.locator("h3").first.evaluate("each => each.scrollIntoView()")
                save(page, options.out / f"{name}.png")
                page.close()
            browser.close()
    finally:
        for process in (ui, dashboard):
            process.terminate()


def run(*words: str) -> None:
    subprocess.run([*MNIST_LAB, *words], check=True, stdout=subprocess.DEVNULL)


def wait_for(address: str) -> None:
    host = urlsplit(address)
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((str(host.hostname), host.port or 80), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"{address} does not answer")


def close_assistant(page: Page) -> None:
    """Close MLflow's assistant, which takes a quarter of the page."""
    button = page.get_by_role("button", name="Close").last
    if button.count() and "5151" in page.url:
        button.click(timeout=1000, force=True)
        page.wait_for_timeout(1500)


def save(page: Page, file: Path) -> None:
    """Save a screenshot with a palette: a third of the bytes."""
    page.screenshot(path=str(file))
    Image.open(file).convert("RGB").quantize(96).save(file, optimize=True)
    print(file, file.stat().st_size // 1000, "kB")


if __name__ == "__main__":
    main()
