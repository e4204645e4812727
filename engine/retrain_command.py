"""Retraining from the command line: start it and say how it goes, until it needs an admin or is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from db.models import RetrainState
from db.session import session_scope
from engine.findings.answers import Task
from engine.services import retrain, worklist
from engine.services.accounts import command_line
from engine.services.retrain import RetrainSettings, RunView

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Ended:
    """How a run stands when there is nothing more to wait for."""

    run: RunView

    @property
    def went_well(self) -> bool:
        return self.run.state in (RetrainState.AWAITING_SIGNATURE, RetrainState.PROMOTED)

    def as_json(self) -> dict[str, Any]:
        run = self.run
        return {
            "run": run.run_id,
            "state": run.state.value,
            "message": run.message,
            "candidate": run.candidate,
            "model_in_use": run.model_in_use,
            "data_set_sha256": run.data_set_sha256,
            "seconds": {one.step.value: one.seconds and round(one.seconds, 1) for one in run.steps},
            "decision": run.decision.as_json() if run.decision else None,
        }

    def as_text(self) -> str:
        reasons = [f"- {reason}" for reason in (self.run.decision.reasons if self.run.decision else ())]
        sign = ["Sign or decline it on the Retrain page."] if self.run.state is RetrainState.AWAITING_SIGNATURE else []
        return "\n".join([f"Run {self.run.run_id}: {self.run.message}", *reasons, *sign])


def start_and_follow(database_url: str, tasks: tuple[Task, ...], *, say: Callable[[str], None]) -> Ended:
    """Acts as the demo admin. Raises as retrain.start. When it is interrupted, the run goes on in its worker."""
    with session_scope(database_url) as session:
        run_id = retrain.start(session, command_line(), RetrainSettings(tasks=tasks))
        if not any(worker.alive for worker in worklist.overview(session, command_line()).workers):
            say("No worker is running; the run waits. Start one with: pediscreen worker")
    said = ""
    while True:
        with session_scope(database_url) as session:
            run = retrain.run(session, command_line(), run_id)
        if not run.is_on:
            return Ended(run)
        step = next((one.step.value for one in run.steps if one.state == "running"), "waits for a worker")
        line = f"{step}: {run.progress:.0%}"
        if line != said:
            say(line)
            said = line
        time.sleep(LOOK_EVERY_S)
