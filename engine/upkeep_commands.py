"""`pediscreen audit`, `backup`, `restore`: the commands of whoever looks after the workstation."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.settings import settings


def add_to(command: Callable[..., argparse.ArgumentParser], commands: Any) -> None:
    """Adds their parsers; `command` is engine.cli's own way to add one."""
    sub = commands.add_parser("audit", help="the audit log", description="the audit log")
    actions = sub.add_subparsers(required=True, metavar="ACTION")
    action = actions.add_parser(
        "verify", help="is it still what was recorded, and what it speaks of? exit status 1: no"
    )
    action.add_argument("--files", action="store_true", help="also every image and model folder, which takes longer")
    action.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    action.set_defaults(command=verify)
    action = actions.add_parser("export", help="the log, or a part of it, as CSV or as FHIR AuditEvents")
    action.add_argument("out", type=Path, metavar="OUT", help="a file that is not there yet; - for standard output")
    action.add_argument("--format", choices=("csv", "fhir"), default="csv")
    action.add_argument("--who", help="a user's name")
    action.add_argument("--what", help='an action such as review.recorded, or all of its kind: "review"')
    action.add_argument("--subject", help="what it was done to, such as study:12")
    action.add_argument("--since", type=_moment, metavar="YYYY-MM-DD[THH:MM]", help="UTC")
    action.add_argument("--until", type=_moment, metavar="YYYY-MM-DD[THH:MM]", help="UTC, not included")
    action.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    action.set_defaults(command=export)

    sub = command("backup", backup, "database, images and models into one folder, while the workstation runs")
    sub.add_argument("out", type=Path, metavar="OUT", help="a folder that is not there yet")
    sub = command("restore", restore, "a backup into an empty data folder and an empty database")
    sub.add_argument("folder", type=Path, metavar="IN")


def verify(arguments: argparse.Namespace) -> int:
    from db.session import session_scope
    from engine.schema_check import require_newest
    from engine.services import audit_check, stored_files

    url = settings().database_url
    require_newest(url)
    with session_scope(url) as session:
        found = audit_check.verify(session, _admin())
        files, troubles = stored_files.check(session, _admin()) if arguments.files else (0, [])
    if arguments.json:
        said = dataclasses.asdict(found) | {"files_checked": files, "file_problems": troubles}
        print(json.dumps(said, indent=2))
    else:
        print(found.in_words())
        for line in [*(problem.message for problem in found.problems), *troubles]:
            print(f"  {line}")
        if arguments.files:
            print(f"{files:,} images and model folders opened, {len(troubles)} with a problem.")
    return 1 if found.problems or troubles else 0


def export(arguments: argparse.Namespace) -> None:
    from db.repositories.audit import AuditQuery
    from db.session import session_scope
    from engine.errors import Refused
    from engine.schema_check import require_newest
    from engine.services import audit_export

    url = settings().database_url
    require_newest(url)
    query = AuditQuery(arguments.who, arguments.what, arguments.subject, arguments.since, arguments.until)
    to_screen = str(arguments.out) == "-"
    if not to_screen and arguments.out.exists():
        raise Refused("exists", f"{arguments.out} is there already: choose another name")
    with session_scope(url) as session:
        text = audit_export.export(session, _admin(), query, audit_export.Format(arguments.format))
    if to_screen:
        sys.stdout.write(text)
        return
    arguments.out.write_text(text, encoding="utf-8")
    print(json.dumps({"out": str(arguments.out)}) if arguments.json else f"{arguments.out}")


def backup(arguments: argparse.Namespace) -> None:
    from engine.services import backup

    made = backup.make(settings(), _admin(), arguments.out, say=_say)
    said = f"{made.files:,} files, {made.bytes / 1e6:,.0f} MB, schema {made.schema}: {arguments.out}"
    print(json.dumps(dataclasses.asdict(made), indent=2, default=str) if arguments.json else said)


def restore(arguments: argparse.Namespace) -> None:
    from engine.services import backup

    made = backup.restore(settings(), _admin(), arguments.folder, say=_say)
    said = f"{made.files:,} files restored to {settings().data_dir}, as they were on {made.made_at[:16]} UTC."
    print(json.dumps(dataclasses.asdict(made), indent=2, default=str) if arguments.json else said)


def _admin() -> Any:
    """Whoever may run a command on this machine with its settings is its administrator."""
    from engine.services.accounts import command_line

    return command_line()


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
