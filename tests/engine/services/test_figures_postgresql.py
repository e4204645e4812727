"""SQLite and PostgreSQL count the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from db import migrate
from db.session import session_scope
from engine.dashboard_sheet import Sheet
from engine.findings.answers import Task
from engine.services import class_figures, figures
from engine.services.accounts import demo_admin
from engine.services.figure_filters import FigureFilter
from tests.benchmarks.reviewed_studies import IN_USE, NOW, SHADOW, generate
from tests.postgresql import private_server

STUDIES = 400


@pytest.mark.slow
def test_every_figure_is_the_same_on_both(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/figures.sqlite"
    migrate.upgrade(url)
    with private_server() as server:
        for database in (url, server):
            generate(database, STUDIES, seed=5)
        for one, other in zip(sheets(url), sheets(server), strict=True):
            assert one.filter_words == other.filter_words
            for mine, theirs in zip((*one.tiles, *one.charts), (*other.tiles, *other.charts), strict=True):
                assert rounded(mine) == rounded(theirs), mine.key
        with session_scope(server) as session:
            assert session.scalar(text("SHOW jit")) == "off", "compiling takes longer than counting"


def sheets(url: str) -> list[Sheet]:
    admin, found = demo_admin(), []
    with session_scope(url) as session:
        for task in Task:
            filter = FigureFilter(task=task, version_id=IN_USE, other_version_id=SHADOW)
            narrow = replace(filter, sites=("North", "South"), sexes=("F", "unknown"), age_bands=("5-9 y", "unknown")
                             if task is not Task.ROP else ("2-3 months",), reader_ids=(1, 2, 3))  # fmt: skip
            for field in class_figures.fields_of(task) or (None,):
                found += [figures.model_sheet(session, admin, one, field) for one in (filter, narrow)]
                found.append(figures.reader_sheet(session, admin, FigureFilter(task=task), field))
        found += [figures.operation_sheet(session, admin, FigureFilter(all_tasks=True), NOW)]
        found += [figures.operation_sheet(session, admin, FigureFilter(sites=("North",)), NOW)]
    return found


def rounded(shown: object) -> str:
    """What it holds, without the last digits of a sum taken in another order."""
    return re.sub(r"\d+\.\d{6,}(e-\d+)?", lambda number: f"{float(number.group()):.7f}", repr(shown))
