"""Visits from a file: what would become of every row, and the import of those that may come in.

The file itself is not kept; each visit has its hash and line. A row that is refused is never stored, and one that is
doubtful only when the user, who sees it marked, says so."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import VisitSource
from db.session import writing
from engine.csv_cells import harmless
from engine.errors import Conflict, Refused
from engine.findings import growth_mapping
from engine.findings.growth_mapping import Mapping
from engine.findings.growth_table import CellTable
from engine.services import audit, visit_checks
from engine.services.accounts import READERS, Actor, require
from engine.services.child_growth import CHANGED_MEANWHILE
from engine.services.visit_checks import CheckedVisit, EnteredVisit, State

MOST_ROWS = 200_000


@dataclass(frozen=True)
class Preview:
    """`rows` in the file's order, one for each of its lines."""

    rows: tuple[CheckedVisit, ...]

    def counts(self) -> dict[State, int]:
        return {state: sum(row.state is state for row in self.rows) for state in State}

    def issues(self) -> list[tuple[str, int, str]]:
        """Code, how many rows, and the first message; the most frequent first."""
        first: dict[str, str] = {}
        counted: Counter[str] = Counter()
        for row in self.rows:
            for issue in row.issues:
                first.setdefault(issue.code, issue.message)
            counted.update({issue.code for issue in row.issues})
        return [(code, count, first[code]) for code, count in counted.most_common()]


@dataclass(frozen=True)
class ImportSummary:
    imported: int
    children: int
    left_out: dict[State, int]


def preview(
    session: Session, actor: Actor, table: CellTable, mapping: Mapping, *, today: date | None = None
) -> Preview:
    """Nothing is stored. Raises Refused where the mapping cannot do."""
    require(actor, *READERS)
    if len(table.rows) > MOST_ROWS:
        raise Refused("too_many_rows", f"the file has {len(table.rows):,} rows, at most {MOST_ROWS:,}: split it")
    if missing := mapping.missing():
        raise Refused("not_mapped", f"no column is chosen for {' and '.join(missing)}")
    if twice := mapping.twice():
        raise Refused("mapped_twice", f"the column {twice[0]!r} is chosen for two things")
    entered = []
    for row in table.rows:
        # cells of a row with too many or too few stand under the wrong names: none of them is read
        cells, issues = ({}, list(row.issues)) if row.issues else growth_mapping.read(row.cells, mapping)
        entered.append(EnteredVisit(cells, line=row.line, issues=tuple(issues)))
    return Preview(tuple(visit_checks.check(session, entered, today=today or date.today())))


def import_visits(
    session: Session,
    actor: Actor,
    table: CellTable,
    mapping: Mapping,
    source_sha256: str,
    *,
    confirmed_lines: Sequence[int] = (),
    today: date | None = None,
) -> ImportSummary:
    """Stores the rows that are ready, and the doubtful ones among `confirmed_lines`. Commits, all or nothing.

    Every row is checked anew. Raises Refused as `preview` does, Conflict when somebody else stored one of these visits
    in the meantime."""
    try:
        with writing(session):
            shown = preview(session, actor, table, mapping, today=today)
            confirmed = set(confirmed_lines)
            chosen = [
                row
                for row in shown.rows
                if row.state is State.READY or (row.state is State.TO_CHECK and row.line in confirmed)
            ]
            visit_checks.store(session, actor, chosen, VisitSource.FILE, source_sha256=source_sha256)
            left_out = Counter(row.state for row in shown.rows) - Counter(row.state for row in chosen)
            detail = {
                "file_sha256": source_sha256,
                "imported": len(chosen),
                "left_out": {state.value: count for state, count in left_out.items()},
                "columns": mapping.columns,
                "units": mapping.units,
                "decimal": mapping.decimal,
                "dates": mapping.dates.value,
            }
            audit.record(session, actor, "growth.imported", f"growth_file:{source_sha256[:16]}", detail)
    except IntegrityError as error:
        raise Conflict(CHANGED_MEANWHILE) from error
    return ImportSummary(len(chosen), len({row.patient_fk for row in chosen}), dict(left_out))


def rows_left_out(table: CellTable, shown: Preview, lines: Sequence[int]) -> str:
    """The lines of the file with these numbers as CSV, each with a column that says what is wrong with it."""
    wanted = set(lines)
    out = io.StringIO()
    writer = csv.writer(out, delimiter=table.delimiter, lineterminator="\n")
    writer.writerow(map(harmless, ["line", *table.columns, "what to correct"]))
    for row, checked in zip(table.rows, shown.rows, strict=True):
        if row.line in wanted:
            messages = "; ".join(issue.message for issue in checked.issues)
            cells = [row.line, *(row.cells.get(column, "") for column in table.columns), messages]
            writer.writerow(map(harmless, cells))
    return out.getvalue()
