"""`pediscreen`: one command for people and scripts.

Results go to standard output (with --json as one JSON document), everything else to standard error. Exit status 0 is
done, 1 refused or failed with a message, 2 wrong usage. Each command calls a function elsewhere and is imported only
when it is used, so that `pediscreen --help` answers at once."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import date
from pathlib import Path
from typing import Any

from engine import upkeep_commands, user_commands
from engine.errors import PediScreenError, Refused
from engine.settings import PHANTOM_MODEL, settings
from engine.sign_in_settings import Login

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


def serve(arguments: argparse.Namespace) -> None:
    """The web process. It replaces this one: pages are above the engine, which does not import them."""
    from engine import schema_check
    from engine.services import first_run
    from engine.supervisor import SUPERVISOR_PID, end_with_supervisor

    end_with_supervisor()
    here = settings()
    schema_check.refuse_newer(here.database_url)
    if here.sign_in.login is Login.LOCAL and SUPERVISOR_PID not in os.environ:  # whose output is no log
        _require_migrated()
        address = f"http://localhost:{arguments.port}"
        for line in first_run.announcement(here.sign_in, here.data_dir, here.database_url, address):
            _say(line)
    environment = {**os.environ, "PEDISCREEN_PORT": str(arguments.port)}
    os.execve(sys.executable, [sys.executable, "-m", "ui.serve"], environment)


def worker(arguments: argparse.Namespace) -> None:
    from engine.jobs import worker
    from engine.supervisor import end_with_supervisor

    end_with_supervisor()
    _require_migrated()
    worker.main(settings())


def api(arguments: argparse.Namespace) -> None:
    from engine.api import alone

    _require_migrated()
    alone.main(arguments.host, arguments.port, arguments.workers, arguments.certificate, arguments.key)


def exchange(arguments: argparse.Namespace) -> None:
    from engine.jobs import exchange
    from engine.supervisor import end_with_supervisor

    end_with_supervisor()
    _require_migrated()
    exchange.main(settings())


def up(arguments: argparse.Namespace) -> None:
    from engine import supervisor
    from engine.jobs import exchange

    here = settings()
    supervisor.up(
        data_dir=here.data_dir,
        database_url=here.database_url,
        port=arguments.port,
        sign_in=here.sign_in,
        # people who sign in have films of their own
        with_demo=here.sign_in.login is Login.DEMO and not arguments.no_demo,
        with_exchange=bool(exchange.configured(here)),
    )


def doctor(arguments: argparse.Namespace) -> int:
    from engine import doctor

    report = doctor.examine(settings())
    _print(arguments, report.as_json(), report.as_text())
    return 0 if report.can_run else 1


def db_upgrade(arguments: argparse.Namespace) -> None:
    from engine import schema_check

    schema_check.upgrade(settings().database_url)
    _say("The database has the newest schema.")


def db_check(arguments: argparse.Namespace) -> None:
    """For developers: do the migrations lead to what db/models.py says?"""
    from db import migrate

    if difference := migrate.difference_to_models():
        raise PediScreenError(f"The migrations do not lead to db/models.py: {difference}")


def demo(arguments: argparse.Namespace) -> None:
    from engine.jobs.read_pending import read_images
    from engine.services import demo

    here = settings()

    def load():
        reader = _reader_in_use()
        return lambda image_ids: read_images(here.database_url, lambda: reader, image_ids)

    # a large model would take long over phantoms it was not made for: its worker reads them in the background
    filled = demo.fill(here.database_url, here.data_dir, load if here.model == PHANTOM_MODEL else None, say=_say)
    if filled is None:
        _say("The worklist is not empty: nothing was added.")
    _print(arguments, filled.as_json() if filled else {"filled": False}, "")


def ingest(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from db.session import session_scope
    from engine.findings.answers import Task
    from engine.services.accounts import service_actor
    from engine.services.ingest import PatientEntry, ingest_file

    _require_migrated()
    entry = PatientEntry(
        patient_id=arguments.patient_id,
        sex=arguments.sex,
        birth_date=arguments.birth_date,
        acquired_on=arguments.acquired_on,
        laterality=arguments.laterality,
        site=arguments.site,
    )
    task = Task(arguments.task) if arguments.task else None
    results = []
    for path in _files(arguments.paths):
        with session_scope(settings().database_url) as session:
            result = ingest_file(session, service_actor("cli"), path, path.name, entry=entry, task=task)
        results.append(result)
        if not arguments.json:
            print(f"{result.outcome:12} {path}" + (f": {result.reason}" if result.reason else ""))
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=2, default=str))
    return 1 if any(result.outcome == "quarantined" for result in results) else 0


def read(arguments: argparse.Namespace) -> None:
    from engine.findings.answers import Task
    from engine.imaging.display import display_pixels
    from engine.imaging.load import load_film
    from engine.imaging.preprocess import model_image
    from engine.inference.read import ReadContext
    from engine.services.ingest import age_at_acquisition

    film = load_film(arguments.file)
    tags, age_months = film.tags, arguments.age_months
    if age_months is None and tags.patient_birth_date and tags.acquired_on:
        age_months = age_at_acquisition(tags.patient_birth_date, tags.acquired_on)
    context = ReadContext(sex=arguments.sex or tags.patient_sex, age_months=age_months)
    reader = _reader_in_use()
    (read,) = reader.read([model_image(display_pixels(film))], Task(arguments.task), [context])
    text = f"no read: {read.reason}" if read.abstained else json.dumps(read.answer)
    _print(arguments, read.as_json(), f"{text}\n{read.model_version}, {read.milliseconds:.0f} ms")
    if reader.is_phantom:
        _say("Read by the phantom model: not for diagnostic use.")


def render(arguments: argparse.Namespace) -> None:
    from engine.imaging.render import render

    film = render(arguments.file, arguments.out)
    for warning in film.warnings:
        _say(warning)
    _print(arguments, {"out": str(arguments.out), "warnings": list(film.warnings)}, str(arguments.out))


def growth(arguments: argparse.Namespace) -> None:
    from engine.findings.growth_table import issue_lines, score_file

    table = score_file(
        arguments.table,
        arguments.out,
        today=date.today(),
        with_weight_for_length=arguments.weight_for_length,
    )
    for line in issue_lines(table, limit=20):
        _say(line)
    result = {"out": str(arguments.out), **table.as_json()}
    counts = f"{result['rows']} rows, {result['z_scores']} z-scores, {result['flagged_rows']} flagged"
    _print(arguments, result, f"{counts}: {arguments.out}")


def phantom(arguments: argparse.Namespace) -> None:
    from engine.phantoms.write import make_phantoms

    made = make_phantoms(
        arguments.out_dir,
        arguments.task,
        arguments.count,
        arguments.seed,
        site=arguments.site,
        format=arguments.format,
    )
    files = [{"path": str(file.path), "answer": file.answer} for file in made]
    _print(arguments, {"files": files}, f"{len(files)} {arguments.task} phantoms in {arguments.out_dir}")


def evaluate(arguments: argparse.Namespace) -> int:
    if arguments.data_dir is not None:
        from engine.evaluate_command import evaluate_folder

        deployed = _model_in_use()
        return evaluate_folder(arguments, deployed.folder if deployed else None)
    from engine import evaluation
    from engine.findings.answers import Task

    results = evaluation.evaluate_phantoms(
        _reader_in_use(),
        [Task(task) for task in arguments.task or TASKS],
        arguments.count,
        site=arguments.site,
        progress=lambda task, done: _say(f"{task}: {done} of {arguments.count}"),
    )
    _print(arguments, results, evaluation.as_text(results))
    if results["phantom"]:
        _say("Phantom images or a phantom model: these figures say nothing about real children.")
    return 0


def export(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from db.session import session_scope
    from engine.services.accounts import command_line
    from engine.services.export import export_annotations

    _require_migrated()
    with session_scope(settings().database_url) as session:
        summary = export_annotations(session, command_line(), arguments.out_dir, seed=arguments.seed)
    for warning in summary.warnings:
        _say(warning)
    if summary.is_phantom:
        _say("The export holds phantom images or phantom reads: not for diagnostic use.")
    _print(
        arguments,
        asdict(summary),
        f"{summary.images} images of {summary.patients} patients in {summary.out_dir};"
        f" {len(summary.left_out)} left out, {summary.not_reviewed} not reviewed yet",
    )


def report(arguments: argparse.Namespace) -> None:
    from engine.report_command import write_report

    _require_migrated()
    here = settings().database_url
    written = write_report(here, arguments.study_id, arguments.out_dir, with_comments=arguments.with_comments)
    for reason in written.left_out:
        _say(reason)
    if written.signed.is_phantom:
        _say("A phantom image, or a read of the phantom model: not for diagnostic use.")
    _print(arguments, written.as_json(), written.as_text())


def export_dicom(arguments: argparse.Namespace) -> None:
    from engine import deidentify_command

    _require_migrated()
    _print(arguments, *deidentify_command.exported(settings().database_url, arguments, say=_say))


def crosswalk(arguments: argparse.Namespace) -> None:
    from engine import deidentify_command

    print(json.dumps(deidentify_command.crosswalk_rows(arguments.file, arguments.key_file), indent=1))


def models(arguments: argparse.Namespace) -> None:
    from engine import model_commands

    _require_migrated()
    url = settings().database_url
    if arguments.action == "list":
        result, text = model_commands.listed(url)
    elif arguments.action == "promote":
        result, text = model_commands.promoted(url, arguments.model, arguments.comment)
    else:
        result, text = model_commands.rolled_back(url, arguments.comment)
    _print(arguments, result, text)


def token(arguments: argparse.Namespace) -> None:
    from engine import token_commands

    _require_migrated()
    url = settings().database_url
    if arguments.action == "list":
        result, text = token_commands.listed(url)
    elif arguments.action == "add":
        result, text = token_commands.added(url, arguments.name, arguments.role, arguments.scope, arguments.days)
    else:
        result, text = token_commands.revoked(url, arguments.token)
    _print(arguments, result, text)


def user(arguments: argparse.Namespace) -> None:
    _require_migrated()
    result, text = user_commands.run(settings().database_url, arguments)
    _print(arguments, result, text)


def retrain(arguments: argparse.Namespace) -> int:
    from engine import retrain_command
    from engine.findings.answers import Task

    _require_migrated()
    tasks = tuple(Task(task) for task in arguments.task or ())
    ended = retrain_command.start_and_follow(settings().database_url, tasks, say=_say)
    _print(arguments, ended.as_json(), ended.as_text())
    return 0 if ended.went_well else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pediscreen", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, function: Any, help_text: str, *, json_too: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(command=function)
        if json_too:
            sub.add_argument("--json", action="store_true", help="the result as JSON on standard output")
        return sub

    sub = command("up", up, "start everything: database, demo worklist, web, worker", json_too=False)
    sub.add_argument("--port", type=int, default=settings().port)
    sub.add_argument("--no-demo", action="store_true", help="leave an empty worklist empty")
    sub = command("serve", serve, "the web process alone", json_too=False)
    sub.add_argument("--port", type=int, default=settings().port)
    command("worker", worker, "a worker: holds the model and reads what waits", json_too=False)
    sub = command("api", api, "the REST API alone, without the pages", json_too=False)
    sub.add_argument("--host", default="127.0.0.1", help="another address needs a certificate")
    sub.add_argument("--port", type=int, default=settings().port + 1)
    sub.add_argument("--workers", type=_positive, default=1, help="processes")
    sub.add_argument("--certificate", type=_existing_file, metavar="FILE", help="PEM, for https")
    sub.add_argument("--key", type=_existing_file, metavar="FILE")
    command("exchange", exchange, "what comes in from the hospital's systems and goes out to them", json_too=False)
    command("doctor", doctor, "what this machine can run, and what is missing")

    sub = commands.add_parser("db", help="the database", description="the database")
    actions = sub.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("upgrade", help="create it, or bring it to the newest schema").set_defaults(command=db_upgrade)
    actions.add_parser("check", help="developers: do migrations and models agree?").set_defaults(command=db_check)

    upkeep_commands.add_to(command, commands)
    command("demo", demo, "fill an empty worklist with phantom studies")

    sub = command("ingest", ingest, "take files or folders into the worklist; refused ones go to quarantine")
    sub.add_argument("paths", nargs="+", type=_existing, metavar="PATH")
    sub.add_argument("--task", choices=TASKS, help="for files that do not say what they show")
    sub.add_argument("--patient-id", help="for PNG and JPEG, which have no tags")
    sub.add_argument("--sex", choices=("M", "F"))
    sub.add_argument("--birth-date", type=date.fromisoformat, metavar="YYYY-MM-DD")
    sub.add_argument("--acquired-on", type=date.fromisoformat, metavar="YYYY-MM-DD")
    sub.add_argument("--laterality", choices=("L", "R"))
    sub.add_argument("--site")

    sub = command("read", read, "one file through the model; nothing is stored")
    sub.add_argument("file", type=_existing_file, metavar="FILE")
    sub.add_argument("--task", choices=TASKS, required=True)
    sub.add_argument("--sex", choices=("M", "F"), help="otherwise as the file says")
    sub.add_argument("--age-months", type=float)

    sub = command("render", render, "what the viewer shows at its default window, as PNG")
    sub.add_argument("file", type=_existing_file, metavar="FILE")
    sub.add_argument("out", type=Path, metavar="OUT.png")

    sub = command("growth", growth, "WHO z-scores for a table of measurements; doubtful rows are flagged")
    sub.add_argument("table", type=_existing_file, metavar="IN.csv")
    sub.add_argument("out", type=Path, metavar="OUT.csv")
    sub.add_argument("--weight-for-length", action="store_true", help="also weight for length or height")

    sub = command("phantom", phantom, "make synthetic images with known answers")
    sub.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    sub.add_argument("--task", choices=PHANTOM_TASKS, required=True)
    sub.add_argument("--count", type=_positive, default=10)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--site", default="A", help="shifts exposure, noise, detector, markers")
    sub.add_argument("--format", choices=("dicom", "png", "pedirad-custom"), default="dicom")

    sub = command("evaluate", evaluate, "the model in use against known answers, with 95 %% intervals")
    sub.add_argument("--task", choices=TASKS, action="append", help="may be given more than once; all tasks otherwise")
    sub.add_argument("--count", type=_positive, default=600, help="fresh phantoms a task")
    sub.add_argument("--site", default="A", help="whose phantoms")
    sub.add_argument("--data_dir", type=_existing, help="a pedirad-custom folder instead of phantoms")
    sub.add_argument("--split", choices=("train", "val", "test"), default="test")
    sub.add_argument("--output_dir", type=Path, help="with --data_dir: evaluation.json and report.html go here")
    sub.add_argument("--allow_absent_classes", action="store_true", help="with --data_dir: a class may be missing")

    sub = command("export", export, "reviewed cases as training annotations (pedirad-custom)")
    sub.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    sub.add_argument("--seed", type=int, default=0, help="of the split")

    sub = command("report", report, "what leaves of a signed study: DICOM SR, rendered page, FHIR, as files")
    sub.add_argument("study_id", type=int, metavar="STUDY_ID")
    sub.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    sub.add_argument("--with-comments", action="store_true", help="readers' free text too, which may name the child")

    sub = command("export-dicom", export_dicom, "decided studies as DICOM files without their patients")
    sub.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    sub.add_argument("--study", type=int, action="append", metavar="ID", help="these studies rather than all decided")
    sub.add_argument("--mask", action="append", default=[], metavar="IMAGE:COLUMN,ROW,WIDTH,HEIGHT", help="set to 0")
    sub.add_argument("--crosswalk", type=Path, metavar="FILE", help="also write who is who, encrypted")
    sub.add_argument("--key-file", type=_existing_file, metavar="FILE", help="what the crosswalk is encrypted with")
    sub = command("crosswalk", crosswalk, "the content of a crosswalk, as JSON", json_too=False)
    sub.add_argument("file", type=_existing_file, metavar="FILE")
    sub.add_argument("--key-file", type=_existing_file, metavar="FILE")

    sub = commands.add_parser("models", help="which model reads here", description="which model reads here")
    actions = sub.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("list", help="every model, and which is in use")
    action = actions.add_parser("promote", help="put a model in use; a new one is signed for by it")
    action.add_argument("model", metavar="MODEL", help="its name, or its number in the list")
    actions.add_parser("rollback", help="bring back the model that was in use before")
    for name, action in actions.choices.items():
        action.set_defaults(command=models)
        action.add_argument("--json", action="store_true", help="the result as JSON on standard output")
        if name != "list":
            action.add_argument("--comment", help="why; it is kept in the history")

    sub = commands.add_parser("token", help="who may call the REST API", description="who may call the REST API")
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
        action.set_defaults(command=token)
        action.add_argument("--json", action="store_true", help="the result as JSON on standard output")

    user_commands.add_to(commands, user)
    sub = command(
        "retrain", retrain, "a new model from the readers' corrections; follows it until it needs a signature"
    )
    sub.add_argument("--task", choices=TASKS, action="append", help="may be given more than once; all tasks otherwise")
    return parser


def _reader_in_use():
    """The model that the workers read with. Raises ModelUnavailable with everything that is missing."""
    from engine.jobs.model_in_use import load_reader

    return load_reader(_model_in_use())


def _model_in_use():
    """What the registry has put in use; None: the model of the settings, also before there is a database."""
    from sqlalchemy import make_url

    from db import migrate
    from db.session import session_scope
    from engine.services import registry
    from engine.services.accounts import service_actor

    url = make_url(settings().database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return None
    if migrate.revisions(settings().database_url)[0] is None:
        return None
    _require_migrated()
    with session_scope(settings().database_url) as session:
        return registry.in_use(session, service_actor("cli"))


def _require_migrated() -> None:
    from engine import schema_check

    schema_check.require_newest(settings().database_url)


def _files(paths: list[Path]) -> list[Path]:
    """Files as given; folders stand for every file below them, in a stable order."""
    found = []
    for path in paths:
        found += sorted(below for below in path.rglob("*") if below.is_file()) if path.is_dir() else [path]
    return found


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


def _print(arguments: argparse.Namespace, result: Any, text: str) -> None:
    if getattr(arguments, "json", False):
        print(json.dumps(result, indent=2, default=str))
    elif text:
        print(text)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _failed(arguments: argparse.Namespace, code: str, message: str) -> int:
    if getattr(arguments, "json", False):
        print(json.dumps({"error": {"code": code, "message": message}}, indent=2))
    _say(message)
    return 1


if __name__ == "__main__":
    sys.exit(main())
