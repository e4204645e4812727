"""How much of a task's reading is checked: read blind first, read twice, mixed with gold cases. Set by an admin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from db.models import QualityRule
from db.models import Task as DbTask
from db.repositories import blind as repository
from db.session import writing
from db.types import utc_now
from engine.errors import Refused
from engine.findings.answers import Task
from engine.services import audit
from engine.services.accounts import Actor, require


@dataclass(frozen=True)
class Rule:
    """`second_read_share`: of the studies, 0 to 1. `gold_every`: one gold case in so many decisions of a reader; 0:
    none. `changed_by` None: nobody has set it, and nothing is checked."""

    task: Task
    blind_first: bool = False
    second_read_share: float = 0.0
    gold_every: int = 0
    changed_by: str | None = None
    changed_at: datetime | None = None


def rules(session: Session, actor: Actor) -> list[Rule]:
    """One a task. Admins only: a reader who knew the shares could guess what is checked."""
    require(actor)
    found = repository.rules(session)
    return [_rule(task, found.get(DbTask(task))) for task in Task]


def set_rule(session: Session, actor: Actor, rule: Rule) -> None:
    """From now on; what was sampled before stays so. Commits. Admins only. Raises Refused, NotAllowed."""
    require(actor)
    if not 0 <= rule.second_read_share <= 1:
        raise Refused("share", f"the share of second reads must lie between 0 and 1, found {rule.second_read_share}")
    if rule.gold_every < 0:
        raise Refused("gold_every", f"gold cases come once in 1 or more decisions, or 0 for none; {rule.gold_every}")
    with writing(session):
        row = repository.rules(session).get(DbTask(rule.task))
        if row is None:
            row = QualityRule(task=DbTask(rule.task), changed_by=actor.username)
            session.add(row)
        row.blind_first, row.second_read_share = rule.blind_first, rule.second_read_share
        row.gold_every, row.changed_by, row.changed_at = rule.gold_every, actor.username, utc_now()
        detail = {
            "blind_first": rule.blind_first,
            "second_read_share": rule.second_read_share,
            "gold_every": rule.gold_every,
        }
        audit.record(session, actor, "quality_rule.set", f"task:{rule.task.value}", detail)


def _rule(task: Task, row: QualityRule | None) -> Rule:
    if row is None:
        return Rule(task)
    return Rule(task, row.blind_first, row.second_read_share, row.gold_every, row.changed_by, row.changed_at)
