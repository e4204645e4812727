"""How long `make run` takes on a fresh clone, and on the starts after it.   python tests/benchmarks/first_run.py

Clones this repository's HEAD into a temporary folder, runs `make run` there twice and prints JSON: seconds from the
command until the worklist's first line is drawn in a browser and until every study is read, seconds until Ctrl-C has
ended everything, and the resident memory of web and worker. The package cache is whatever pip has: run it twice for a
warm one. Needs the dev extra and Chromium."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

PROJECT_DIR = Path(__file__).resolve().parents[2]
PORT = "8592"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pediscreen-first-run-") as folder:
        clone = Path(folder) / "pediscreen"
        subprocess.run(["git", "clone", "--quiet", str(PROJECT_DIR), str(clone)], check=True)
        first, later = start(clone), start(clone)
        print(json.dumps({"first_start": first, "later_start": later, "cores": os.cpu_count()}, indent=2))


def start(clone: Path) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PEDISCREEN_")}
    environment["PEDISCREEN_PORT"] = PORT
    started = time.monotonic()
    make = subprocess.Popen(
        ["make", "run"], cwd=clone, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in make.stdout:
        if line.startswith("PediScreen: http"):
            address = line.split()[1]
            break
    else:
        raise SystemExit("make run ended before it was ready")
    answered = time.monotonic()
    wait_for_the_worklist(address)
    usable = time.monotonic()
    wait_for_the_worker(address)
    read = time.monotonic()
    memory = resident_mb(clone)
    os.killpg(make.pid, signal.SIGINT)  # as a terminal does
    make.wait(timeout=60)
    return {
        "address_printed_s": round(answered - started, 1),
        "worklist_drawn_s": round(usable - started, 1),
        "all_read_s": round(read - started, 1),
        "stopped_s": round(time.monotonic() - read, 1),
        **memory,
    }


def wait_for_the_worklist(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = browser.new_page()
        page.goto(address)
        page.locator("tr[data-study]").first.wait_for(timeout=60_000)
        browser.close()


def wait_for_the_worker(address: str) -> None:
    """Until nothing awaits its read any more."""
    while True:
        with urllib.request.urlopen(f"{address}/api/radiology/queue?status=awaiting_read&page_size=1") as answer:
            if json.load(answer)["total"] == 0:
                return
        time.sleep(0.5)


def resident_mb(clone: Path) -> dict[str, float]:
    """Web and worker with what they started (decode processes)."""
    found = {}
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = " ".join(process.info["cmdline"] or [])
        if process.info["cwd"] != str(clone):
            continue
        for name, marker in (("web_mb", "-m ui.serve"), ("worker_mb", "engine.cli worker")):
            if marker in command:
                family = [process, *process.children(recursive=True)]
                found[name] = round(sum(one.memory_info().rss for one in family) / 1e6)
    return found


if __name__ == "__main__":
    main()
