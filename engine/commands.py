"""What each command of `pediscreen` does: it calls a function elsewhere, which is imported only when it is used, so
that `pediscreen --help` answers at once."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import date
from pathlib import Path
from typing import Any

from engine import user_commands
from engine.errors import PediScreenError
from engine.settings import PHANTOM_MODEL, settings
from engine.sign_in_settings import Login


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
        address = here.sign_in.address(arguments.port)
        for line in first_run.announcement(here.sign_in, here.data_dir, here.database_url, address):
            say(line)
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
    say("The database has the newest schema.")


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
    filled = demo.fill(here.database_url, here.data_dir, load if here.model == PHANTOM_MODEL else None, say=say)
    if filled is None:
        say("The worklist is not empty: nothing was added.")
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
        say("Read by the phantom model: not for diagnostic use.")


def render(arguments: argparse.Namespace) -> None:
    from engine.imaging.render import render

    film = render(arguments.file, arguments.out)
    for warning in film.warnings:
        say(warning)
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
        say(line)
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
        [Task(task) for task in arguments.task or Task],
        arguments.count,
        site=arguments.site,
        progress=lambda task, done: say(f"{task}: {done} of {arguments.count}"),
    )
    _print(arguments, results, evaluation.as_text(results))
    if results["phantom"]:
        say("Phantom images or a phantom model: these figures say nothing about real children.")
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
        say(warning)
    if summary.is_phantom:
        say("The export holds phantom images or phantom reads: not for diagnostic use.")
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
        say(reason)
    if written.signed.is_phantom:
        say("A phantom image, or a read of the phantom model: not for diagnostic use.")
    _print(arguments, written.as_json(), written.as_text())


def export_dicom(arguments: argparse.Namespace) -> None:
    from engine import deidentify_command

    _require_migrated()
    _print(arguments, *deidentify_command.exported(settings().database_url, arguments, say=say))


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
    ended = retrain_command.start_and_follow(settings().database_url, tasks, say=say)
    _print(arguments, ended.as_json(), ended.as_text())
    return 0 if ended.went_well else 1


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


def _print(arguments: argparse.Namespace, result: Any, text: str) -> None:
    if getattr(arguments, "json", False):
        print(json.dumps(result, indent=2, default=str))
    elif text:
        print(text)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
