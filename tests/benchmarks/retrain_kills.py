"""A retraining whose worker is killed ten times, and whose web process once, ends as one that nobody disturbed.

    python tests/benchmarks/retrain_kills.py [--kills 10] [--seed 1] [--work_dir DIR] [--json FILE]

Real steps on the phantom model with few films, a short training and a short comparison (quick_steps.py). The same
decisions are retrained on twice, each time in a data folder of its own: once undisturbed, once with kill -9 at random
moments of every step, twice between two training steps. Compared are the data set, the weights, the certificate of the
merging but for its times and memory, and the gate's figures; what is left on disk and which processes live is looked at
too. With --work_dir the corrected films are kept for the next time."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from db import migrate  # noqa: E402
from db.models import RetrainState, RetrainStep  # noqa: E402
from db.session import engine_for, session_scope  # noqa: E402
from engine.services import lineage, retrain  # noqa: E402
from engine.services.accounts import demo_admin  # noqa: E402
from engine.services.retrain import RetrainSettings  # noqa: E402
from engine.services.retrain_run import LOG  # noqa: E402
from engine.settings import settings  # noqa: E402
from tests.pediscreen_up import free_port  # noqa: E402

ADMIN = demo_admin()
CORRECTIONS = 130  # of hands alone: a fifth of them have to test
TRAINING = {"epochs": 3, "max_steps": 15, "augmented_views": 1, "save_every": 3}
# kills by what they fall into, in this order: a step of the run, or a training step ("learning")
TARGETS = ["snapshot"] * 2 + ["train"] + ["learning"] * 2 + ["merge"] * 2 + ["evaluate"] * 2 + ["gate"]
LATEST = 0.7  # of the time that the step took undisturbed
CERTIFICATE, OF_THE_MACHINE = "parity.json", ("load_seconds", "peak_memory_bytes_of_this_run")
WITHIN_S = 3600
WORKER = ("tests.benchmarks.quick_steps", "worker")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=len(TARGETS))
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--work_dir", type=Path, help="kept afterwards; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work_dir or Path(temporary)
        films = prepare(work)
        rng = random.Random(arguments.seed)
        undisturbed = one_run(copy(films, work / "undisturbed"), [], rng, {})
        targets = sorted(TARGETS[: arguments.kills], key=TARGETS.index)
        killed = one_run(copy(films, work / "killed"), targets, rng, undisturbed["step_seconds"])
    problems = compare(undisturbed, killed)
    found = {"undisturbed": undisturbed, "killed": killed, "problems": problems}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1, default=str))
    for kill in killed["kills"]:
        learnt = f", {kill['training_steps']} training steps" if kill["training_steps"] else ""
        print(f"killed the {kill['what']} in {kill['step']} after {kill['after_s']:.1f} s of it{learnt}")
    print(f"training went on from step {', '.join(killed['went_on_from'])}")
    print(f"starts of each step: {killed['starts']}")
    print(f"undisturbed {undisturbed['seconds']:.0f} s, killed {killed['seconds']:.0f} s")
    print("the same end, nothing twice, nothing left behind" if not problems else "\n".join(problems))
    return 1 if problems else 0


def prepare(work: Path) -> Path:
    """A data folder with corrected hands of site B."""
    folder = work / "films"
    if (folder / "done").exists():
        return folder
    from engine.inference.checkpoint import load_reader
    from tests.site_b import correct_films

    shutil.rmtree(folder, ignore_errors=True)
    use(folder)
    migrate.upgrade(settings().database_url)
    print(correct_films(settings().database_url, work / "sent", load_reader("phantom", None), CORRECTIONS,
                        views=("hand",)), flush=True)  # fmt: skip
    engine_for(settings().database_url).dispose()
    (folder / "done").touch()
    return folder


def copy(films: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(films, to)
    return to


def use(data_dir: Path) -> None:
    os.environ["PEDISCREEN_DATA_DIR"] = str(data_dir)
    settings.cache_clear()


def one_run(data_dir: Path, targets: list[str], rng: random.Random, step_seconds: dict[str, float]) -> dict:
    """Starts a run and sees it to its end, killing the worker once for each of `targets`. `step_seconds`: how long each
    step is expected to take."""
    use(data_dir)
    url, began = settings().database_url, time.time()
    with session_scope(url) as session:
        run_id = retrain.start(session, ADMIN, RetrainSettings(training=TRAINING))
    worker, web, port, kills = start(*WORKER), None, 0, []
    if targets:
        web, port = start_web()
    for target in targets:
        step, since = wait_for_step(url, run_id, RetrainStep.TRAIN if target == "learning" else target, worker)
        if step is None:
            break
        if target == "learning":
            wait_for_training_step(url, run_id, rng.randint(1, TRAINING["max_steps"] - 1))
        else:
            time.sleep(rng.uniform(0, LATEST * step_seconds[target]))
        step_now = view(url, run_id).step
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        reached = view(url, run_id).training_steps
        kills.append({"what": "worker", "step": step_now, "after_s": time.time() - since, "training_steps": reached})
        if step_now == RetrainStep.TRAIN and web is not None and not any(k["what"] == "web" for k in kills):
            os.kill(web.pid, signal.SIGKILL)
            web.wait()
            kills.append({**kills[-1], "what": "web"})
            web, port = start_web(port)
        worker = start(*WORKER)
        wait_until(lambda step_now=step_now: was_begun_again(url, run_id, step_now, kills), 180)
    wait_until(lambda: not view_while_alive(url, run_id, worker).is_on, WITHIN_S)
    wait_until(lambda: not leftovers(data_dir), 60, give_up=False)
    found = describe(url, run_id, data_dir) | {"seconds": time.time() - began, "kills": kills}
    for process in (worker, web):
        if process is not None:
            process.terminate()
            process.wait(30)
    found["processes_left"] = [
        " ".join(p.info["cmdline"])[:120]
        for p in psutil.process_iter(["cmdline"])
        if str(data_dir) in " ".join(p.info["cmdline"] or [])
    ]
    engine_for(url).dispose()
    return found


class Seen:
    def __init__(self, run) -> None:
        self.is_on = run.is_on
        self.starts = {one.step.value: one.starts for one in run.steps}
        self.step = next((one.step.value for one in run.steps if one.state == "running"), None)
        self.training_steps = len(run.curve.loss)


def view(url: str, run_id: int) -> Seen:
    with session_scope(url) as session:
        return Seen(retrain.run(session, ADMIN, run_id))


def view_while_alive(url: str, run_id: int, worker: subprocess.Popen) -> Seen:
    if worker.poll() is not None:
        raise SystemExit(f"the worker ended by itself: see {settings().data_dir / 'worker.log'}")
    return view(url, run_id)


def was_begun_again(url: str, run_id: int, step: str | None, kills: list[dict]) -> bool:
    """The step that was killed has been taken up; otherwise the next kill would count twice."""
    now = view(url, run_id)
    died = sum(kill["what"] == "worker" and kill["step"] == step for kill in kills)
    return not now.is_on or step is None or now.step != step or now.starts[step] > died


def wait_for_step(url: str, run_id: int, target: str, worker: subprocess.Popen) -> tuple[str | None, float]:
    order = [step.value for step in RetrainStep]
    while True:
        now = view_while_alive(url, run_id, worker)
        if not now.is_on:
            return None, 0.0
        if now.step is not None and order.index(now.step) >= order.index(target):
            return now.step, time.time()
        time.sleep(0.05)


def wait_for_training_step(url: str, run_id: int, number: int) -> None:
    """At most until training is over."""
    while (now := view(url, run_id)).step == RetrainStep.TRAIN and now.training_steps < number:
        time.sleep(0.05)


def wait_until(condition, within_s: float, *, give_up: bool = True) -> None:
    deadline = time.time() + within_s
    while not condition():
        if time.time() > deadline:
            if give_up:
                raise SystemExit(f"did not happen within {within_s} s")
            return
        time.sleep(0.2)


def start(module: str, command: str, *more: str) -> subprocess.Popen:
    with (settings().data_dir / f"{command}.log").open("ab") as log:
        arguments = [sys.executable, "-m", module, command, *more]
        return subprocess.Popen(arguments, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True)


def start_web(port: int = 0) -> tuple[subprocess.Popen, int]:
    if not port:
        port = free_port()
    process = start("engine.cli", "serve", "--port", str(port))
    wait_until(lambda: answers(port), 120)
    return process, port


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2):
            return True
    except OSError:
        return False


def describe(url: str, run_id: int, data_dir: Path) -> dict:
    with session_scope(url) as session:
        run = retrain.run(session, ADMIN, run_id)
        models = [row for row in lineage.models(session, ADMIN) if row.retrain_run_id == run_id]
    return {
        "state": run.state.value,
        "message": run.message,
        "data_set": run.data_set_sha256,
        "decision": run.decision.as_json() if run.decision else None,
        "starts": {one.step.value: one.starts for one in run.steps},
        "step_seconds": {one.step.value: one.seconds for one in run.steps},
        "training_steps": [step for step, _ in run.curve.loss],
        "candidates": [row.name for row in models],
        "went_on_from": re.findall(r"Going on from step (\d+)", (data_dir / "retrain" / str(run_id) / LOG).read_text()),
        "files": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((data_dir / "models").glob("*/*"))
            if path.name != CERTIFICATE
        },
        "certificate": [
            {name: found for name, found in json.loads(path.read_text()).items() if name not in OF_THE_MACHINE}
            for path in (data_dir / "models").glob(f"*/{CERTIFICATE}")
        ],
        "model_folders": sorted(path.name for path in (data_dir / "models").glob("*")),
        "left_in_run_folder": sorted(path.name for path in (data_dir / "retrain" / str(run_id)).iterdir()),
    }


def leftovers(data_dir: Path) -> list[str]:
    from engine.jobs.retrain import KEPT, LOCKS

    return [path.name for path in (data_dir / "retrain").glob("*/*") if path.name not in KEPT | LOCKS]


def compare(undisturbed: dict, killed: dict) -> list[str]:
    problems = [
        f"{name} differs: {undisturbed[name]} and {killed[name]}"
        for name in (
            "state",
            "message",
            "data_set",
            "decision",
            "candidates",
            "files",
            "certificate",
            "model_folders",
            "left_in_run_folder",
        )
        if undisturbed[name] != killed[name]
    ]
    learnt = any(
        kill["step"] == RetrainStep.TRAIN and kill["training_steps"] > TRAINING["save_every"]
        for kill in killed["kills"]
    )
    if learnt and not killed["went_on_from"]:
        problems.append("training never went on from a checkpoint")
    for name, run in (("undisturbed", undisturbed), ("killed", killed)):
        if run["state"] not in (RetrainState.AWAITING_SIGNATURE, RetrainState.HELD):
            problems.append(f"{name}: ended {run['state']}: {run['message']}")
        if run["training_steps"] != list(range(1, len(run["training_steps"]) + 1)):
            problems.append(f"{name}: training steps {run['training_steps']}")
        if run["processes_left"]:
            problems.append(f"{name}: still alive: {run['processes_left']}")
        if len(run["candidates"]) != 1:
            problems.append(f"{name}: {len(run['candidates'])} candidates")
    return problems


if __name__ == "__main__":
    sys.exit(main())
