"""`pediscreen`: one command for people and scripts.

Results go to standard output (with --json as one JSON document), everything else to standard error. Exit status 0 is
done, 1 refused or failed with a message, 2 wrong usage. What each command does is in engine.commands."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import date
from pathlib import Path
from typing import Any

from engine import commands, upkeep_commands, user_commands
from engine.errors import PediScreenError, Refused
from engine.settings import settings

TASKS = ("bone_age", "rop", "fracture")
PHANTOM_TASKS = ("hand", "fundus", "wrist")
ROLES = ("reader", "adjudicator", "admin", "service")  # db.models.Role
SCOPES = ("read", "upload", "review", "analyze", "models")  # engine.services.api_tokens.Scope


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    # Read by OpenMP when torch is loaded, here and in what is started from here: threads that spin while they wait
    # make a read ten times slower as soon as another process wants the core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Read by torch when it first uses a GPU: loading a model leaves gaps, which blocks of a fixed size would keep.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    try:
        return arguments.command(arguments) or 0
    except Refused as refused:
        return _failed(arguments, refused.code, str(refused))
    except PediScreenError as error:
        return _failed(arguments, type(error).__name__, str(error))
    except _of_disk_or_database() as error:
        from engine import faults

        words = faults.in_words(error)
        if words is None:
            raise
        return _failed(arguments, "fault", words)
    except KeyboardInterrupt:
        return 130


def _of_disk_or_database() -> tuple[type[Exception], ...]:
    """Asked for only when something has failed."""
    from sqlalchemy.exc import DBAPIError

    return OSError, DBAPIError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pediscreen", description=__doc__.split("\n")[0])
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, function: Any, help_text: str, *, json_too: bool = True) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(command=function)
        if json_too:
            sub.add_argument("--json", action="store_true", help="the result as JSON on standard output")
        return sub

    sub = command("up", commands.up, "start everything: database, demo worklist, web, worker", json_too=False)
    sub.add_argument("--port", type=int, default=settings().port)
    sub.add_argument("--no-demo", action="store_true", help="leave an empty worklist empty")
    sub = command("serve", commands.serve, "the web process alone", json_too=False)
    sub.add_argument("--port", type=int, default=settings().port)
    command("worker", commands.worker, "a worker: holds the model and reads what waits", json_too=False)
    sub = command("api", commands.api, "the REST API alone, without the pages", json_too=False)
    sub.add_argument("--host", default="127.0.0.1", help="another address needs a certificate")
    sub.add_argument("--port", type=int, default=settings().port + 1)
    sub.add_argument("--workers", type=_positive, default=1, help="processes")
    sub.add_argument("--certificate", type=_existing_file, metavar="FILE", help="PEM, for https")
    sub.add_argument("--key", type=_existing_file, metavar="FILE")
    command(
        "exchange", commands.exchange, "what comes in from the hospital's systems and goes out to them", json_too=False
    )
    command("doctor", commands.doctor, "what this machine can run, and what is missing")

    sub = subparsers.add_parser("db", help="the database", description="the database")
    actions = sub.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("upgrade", help="create it, or bring it to the newest schema").set_defaults(
        command=commands.db_upgrade
    )
    actions.add_parser("check", help="developers: do migrations and models agree?").set_defaults(
        command=commands.db_check
    )

    upkeep_commands.add_to(command, subparsers)
    command("demo", commands.demo, "fill an empty worklist with phantom studies")

    sub = command("ingest", commands.ingest, "take files or folders into the worklist; refused ones go to quarantine")
    sub.add_argument("paths", nargs="+", type=_existing, metavar="PATH")
    sub.add_argument("--task", choices=TASKS, help="for files that do not say what they show")
    sub.add_argument("--patient-id", help="for PNG and JPEG, which have no tags")
    sub.add_argument("--sex", choices=("M", "F"))
    sub.add_argument("--birth-date", type=date.fromisoformat, metavar="YYYY-MM-DD")
    sub.add_argument("--acquired-on", type=date.fromisoformat, metavar="YYYY-MM-DD")
    sub.add_argument("--laterality", choices=("L", "R"))
    sub.add_argument("--site")

    sub = command("read", commands.read, "one file through the model; nothing is stored")
    sub.add_argument("file", type=_existing_file, metavar="FILE")
    sub.add_argument("--task", choices=TASKS, required=True)
    sub.add_argument("--sex", choices=("M", "F"), help="otherwise as the file says")
    sub.add_argument("--age-months", type=float)

    sub = command("render", commands.render, "what the viewer shows at its default window, as PNG")
    sub.add_argument("file", type=_existing_file, metavar="FILE")
    sub.add_argument("out", type=Path, metavar="OUT.png")

    sub = command("growth", commands.growth, "WHO z-scores for a table of measurements; doubtful rows are flagged")
    sub.add_argument("table", type=_existing_file, metavar="IN.csv")
    sub.add_argument("out", type=Path, metavar="OUT.csv")
    sub.add_argument("--weight-for-length", action="store_true", help="also weight for length or height")

    sub = command("phantom", commands.phantom, "make synthetic images with known answers")
    sub.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    sub.add_argument("--task", choices=PHANTOM_TASKS, required=True)
    sub.add_argument("--count", type=_positive, default=10)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--site", default="A", help="shifts exposure, noise, detector, markers")
    sub.add_argument("--format", choices=("dicom", "png", "pedirad-custom"), default="dicom")

    sub = command("evaluate", commands.evaluate, "the model in use against known answers, with 95 %% intervals")
    sub.add_argument("--task", choices=TASKS, action="append", help="may be given more than once; all tasks otherwise")
    sub.add_argument("--count", type=_positive, default=600, help="fresh phantoms a task")
    sub.add_argument("--site", default="A", help="whose phantoms")
    sub.add_argument("--data_dir", type=_existing, help="a pedirad-custom folder instead of phantoms")
    sub.add_argument("--split", choices=("train", "val", "test"), default="test")
    sub.add_argument("--output_dir", type=Path, help="with --data_dir: evaluation.json and report.html go here")
    sub.add_argument("--allow_absent_classes", action="store_true", help="with --data_dir: a class may be missing")

    sub = command("export", commands.export, "reviewed cases as training annotations (pedirad-custom)")
    sub.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    sub.add_argument("--seed", type=int, default=0, help="of the split")

    sub = command("report", commands.report, "what leaves of a signed study: DICOM SR, rendered page, FHIR, as files")
    sub.add_argument("study_id", type=int, metavar="STUDY_ID")
    sub.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    sub.add_argument("--with-comments", action="store_true", help="readers' free text too, which may name the child")

    sub = command("export-dicom", commands.export_dicom, "decided studies as DICOM files without their patients")
    sub.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    sub.add_argument("--study", type=int, action="append", metavar="ID", help="these studies rather than all decided")
    sub.add_argument("--mask", action="append", default=[], metavar="IMAGE:COLUMN,ROW,WIDTH,HEIGHT", help="set to 0")
    sub.add_argument("--crosswalk", type=Path, metavar="FILE", help="also write who is who, encrypted")
    sub.add_argument("--key-file", type=_existing_file, metavar="FILE", help="what the crosswalk is encrypted with")
    sub = command("crosswalk", commands.crosswalk, "the content of a crosswalk, as JSON", json_too=False)
    sub.add_argument("file", type=_existing_file, metavar="FILE")
    sub.add_argument("--key-file", type=_existing_file, metavar="FILE")

    sub = subparsers.add_parser("models", help="which model reads here", description="which model reads here")
    actions = sub.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("list", help="every model, and which is in use")
    action = actions.add_parser("promote", help="put a model in use; a new one is signed for by it")
    action.add_argument("model", metavar="MODEL", help="its name, or its number in the list")
    actions.add_parser("rollback", help="bring back the model that was in use before")
    for name, action in actions.choices.items():
        action.set_defaults(command=commands.models)
        action.add_argument("--json", action="store_true", help="the result as JSON on standard output")
        if name != "list":
            action.add_argument("--comment", help="why; it is kept in the history")

    sub = subparsers.add_parser("token", help="who may call the REST API", description="who may call the REST API")
    actions = sub.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("list", help="every token, and what it may do")
    action = actions.add_parser("add", help="make one; it is shown once")
    action.add_argument("name", metavar="NAME", help="what it is for")
    action.add_argument("--role", choices=ROLES, default="service")
    action.add_argument("--scope", choices=SCOPES, action="append", help="may be given more than once; all otherwise")
    action.add_argument("--days", type=_positive, default=365, help="until it expires")
    action = actions.add_parser("revoke", help="refuse it from now on")
    action.add_argument("token", metavar="TOKEN", help="its name, or its number in the list")
    for action in actions.choices.values():
        action.set_defaults(command=commands.token)
        action.add_argument("--json", action="store_true", help="the result as JSON on standard output")

    user_commands.add_to(subparsers, commands.user)
    sub = command(
        "retrain", commands.retrain, "a new model from the readers' corrections; follows it until it needs a signature"
    )
    sub.add_argument("--task", choices=TASKS, action="append", help="may be given more than once; all tasks otherwise")
    return parser


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no {text}")
    return path


def _existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, found {text}")
    return number


def _failed(arguments: argparse.Namespace, code: str, message: str) -> int:
    if getattr(arguments, "json", False):
        print(json.dumps({"error": {"code": code, "message": message}}, indent=2))
    commands.say(message)
    return 1


if __name__ == "__main__":
    sys.exit(main())
