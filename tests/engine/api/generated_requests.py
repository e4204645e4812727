"""A workstation with a few studies, the API in front of it as `pediscreen api` runs it, and schemathesis, which makes
requests from the API's own description: https://schemathesis.readthedocs.io

All of its checks are on but one. `positive_data_acceptance` wants every request that fits the description to be carried
out; here a decision may contradict the case, and bytes may be no image, which is what 422 and its code are for. The
route of DICOMweb is left to tests/engine/api/test_stow.py and Orthanc: schemathesis writes no multipart/related."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from engine.findings.answers import Task
from engine.services import quality_rules
from engine.services.accounts import demo_admin
from engine.services.quality_rules import Rule
from engine.settings import PROJECT_DIR
from tests.api_process import api_process, new_token, reads_behind_it
from tests.workstation import case_adder

CHECKS_OFF = ("positive_data_acceptance",)
HOOKS = "tests.engine.api.schemathesis_hooks"
NO_LIMIT = "1000000"


@dataclass(frozen=True)
class Outcome:
    """`answers`: how often each status came back, from the API's own log."""

    requests: int
    failed: bool
    said: str
    answers: dict[int, int]


def send(session: Session, folder: Path, examples: int, *, seed: int = 7, workers: int = 1) -> Outcome:
    """`examples` of each route in the fuzzing phase, besides those that the description's limits give by themselves.
    The session's workstation is the one asked."""
    add = case_adder(session, folder)
    for task in [*Task, *Task]:  # as schemathesis_hooks has them
        add(task)
    quality_rules.set_rule(session, demo_admin(), Rule(Task.FRACTURE, blind_first=True))
    secret = new_token("generated requests")
    with (
        reads_behind_it() as door,
        api_process(folder, "--workers", str(workers), PEDISCREEN_API_REQUESTS_PER_MINUTE=NO_LIMIT, **door) as address,
    ):
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"]
        command += ["--header", f"Authorization: Bearer {secret}", "--max-examples", str(examples), "--seed", str(seed)]
        command += ["--exclude-checks", ",".join(CHECKS_OFF), "--exclude-tag", "DICOMweb", "--continue-on-failure"]
        done = subprocess.run(
            command,
            cwd=folder,  # where schemathesis leaves its cache
            env=os.environ | {"SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(PROJECT_DIR)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    answers: dict[int, int] = {}
    for line in (folder / "api.log").read_text().splitlines():
        if " engine.api " in line and line.endswith(" ms"):
            status = int(line.split()[-3])
            answers[status] = answers.get(status, 0) + 1
    return Outcome(sum(answers.values()), done.returncode != 0, done.stdout, answers)
