"""Growth measurements as a table of text: what each cell means, what is wrong with it, and `pediscreen growth`.

Columns read: sex; age_days, age_months (with decimals), or birth_date and measured_on (YYYY-MM-DD); weight_kg,
length_height_cm, head_circumference_cm; measured (lying, standing); oedema (y, n); gestational_age_weeks (30 or 30+4).
Columns added: the z-scores of OUT_COLUMNS to two decimals, and flags (the codes of the row's issues, with ";").
A cell that is not plainly what its column asks for ("3,5", "110 cm") is never guessed at: its row is flagged."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from engine.csv_cells import harmless
from engine.errors import FileRefused
from engine.findings.growth import Indicator
from engine.findings.growth_visits import GrowthZ, Issue, ScoredVisit, Visit, score_visits

OUT_COLUMNS = {
    "weight_for_age_z": Indicator.WEIGHT,
    "height_for_age_z": Indicator.HEIGHT,
    "bmi_for_age_z": Indicator.BMI,
    "head_circumference_for_age_z": Indicator.HEAD,
}
WEIGHT_FOR_LENGTH_COLUMN = "weight_for_length_height_z"  # on demand
FLAGS = "flags"

MEASUREMENT_COLUMNS = ("weight_kg", "length_height_cm", "head_circumference_cm")
AGE_COLUMNS = (("age_days",), ("age_months",), ("birth_date", "measured_on"))
DELIMITERS = ",;\t"
UNKNOWN = ("", "na", "n/a")
SEX = {"m": "M", "male": "M", "f": "F", "female": "F"}
POSITION = {"lying": "lying", "l": "lying", "standing": "standing", "h": "standing"}  # l and h as in WHO's files
OEDEMA = {"y": True, "yes": True, "true": True, "1": True, "n": False, "no": False, "false": False, "0": False}
GESTATION_WEEKS = (22, 44)  # unverified default of this workstation: what a gestational age can be
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
GESTATION = re.compile(r"([0-9]{2})(?:\+([0-6]))?")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MAX_BYTES = 200_000_000


@dataclass(frozen=True)
class TableRow:
    """One line of a file. `line` counts from 1 with the header, as an editor shows it."""

    line: int
    cells: dict[str, str]
    scored: ScoredVisit

    @property
    def flags(self) -> str:
        return ";".join(dict.fromkeys(issue.code for issue in self.scored.issues))


@dataclass(frozen=True)
class CellRow:
    """One line as it is written, by column. `issues`: it has too many or too few cells."""

    line: int
    cells: dict[str, str]
    issues: tuple[Issue, ...]


@dataclass(frozen=True)
class CellTable:
    columns: tuple[str, ...]
    delimiter: str
    rows: tuple[CellRow, ...]


@dataclass(frozen=True)
class ScoredTable:
    columns: tuple[str, ...]
    delimiter: str
    rows: tuple[TableRow, ...]

    def as_json(self) -> dict:
        """Counts and every issue with its line; the z-scores are in the file."""
        scores = [row.scored.values[indicator] for row in self.rows for indicator in OUT_COLUMNS.values()]
        return {
            "rows": len(self.rows),
            "z_scores": sum(isinstance(score, GrowthZ) for score in scores),
            "flagged_rows": sum(bool(row.scored.issues) for row in self.rows),
            "issues": [
                {"line": row.line, "column": issue.field, "code": issue.code, "message": issue.message}
                for row in self.rows
                for issue in row.scored.issues
            ],
        }


def score_file(source: Path, target: Path, *, today: date, with_weight_for_length: bool = False) -> ScoredTable:
    """Reads `source`, writes it with the added columns to `target` (which appears complete or not at all).

    Raises FileRefused for a file that is not such a table; rows that are wrong are flagged, not refused."""
    if source.resolve() == target.resolve():
        raise FileRefused("same_file", f"{target} is the file that is read: name another one to write")
    table = read_table(source, today=today)
    added = dict(OUT_COLUMNS)
    if with_weight_for_length:
        added[WEIGHT_FOR_LENGTH_COLUMN] = Indicator.WEIGHT_FOR_LENGTH
    for column in (*added, FLAGS):
        if column in table.columns:
            raise FileRefused("column_taken", f"{source.name} already has a column {column}: rename it first")
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=table.delimiter, lineterminator="\n")
            writer.writerow(map(harmless, [*table.columns, *added, FLAGS]))
            for row in table.rows:
                z = [_two_decimals(row.scored.values[indicator]) for indicator in added.values()]
                writer.writerow(map(harmless, [*(row.cells[column] for column in table.columns), *z, row.flags]))
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FileRefused("not_writable", f"{target} cannot be written: {error.strerror}") from error
    return table


def read_table(source: Path, *, today: date) -> ScoredTable:
    """Every row of a CSV file (comma, semicolon or tab; UTF-8 or Windows-1252), read and scored."""
    if source.stat().st_size > MAX_BYTES:
        raise FileRefused("too_large", f"{source.name} has more than {MAX_BYTES // 1_000_000} MB: split it")
    table = read_cells(source.name, source.read_bytes())
    _check_header(source.name, table.columns)
    # cells of a row with too many or too few stand under the wrong names: none of them is read
    known = [row.issues for row in table.rows]
    scored = score_rows([{} if row.issues else row.cells for row in table.rows], today=today, issues=known)
    rows = [TableRow(row.line, row.cells, result) for row, result in zip(table.rows, scored, strict=True)]
    return ScoredTable(table.columns, table.delimiter, tuple(rows))


def read_cells(name: str, content: bytes) -> CellTable:
    """The cells of a CSV file as they are written, whatever its columns are called. `name` is for the refusal.

    Raises FileRefused for what is no table, or has a column twice."""
    text = _text(name, content)
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        columns = tuple(name.strip() for name in next(lines, []))
        doubled = sorted({column for column in columns if columns.count(column) > 1})
        if doubled:
            raise FileRefused("column_twice", f"{name} has the column {doubled[0]!r} more than once")
        records = [(lines.line_num, record) for record in lines if any(cell.strip() for cell in record)]
    except csv.Error as error:
        raise FileRefused("not_a_table", f"{name} cannot be read as a table: {error}") from error
    rows = [
        CellRow(
            line,
            dict(zip(columns, record + [""] * (len(columns) - len(record)), strict=False)),
            tuple(_wrong_length(len(record), len(columns))),
        )
        for line, record in records
    ]
    return CellTable(columns, delimiter, tuple(rows))


def score_rows(
    rows: Sequence[Mapping[str, str | None]], *, today: date, issues: Sequence[Sequence[Issue]] | None = None
) -> list[ScoredVisit]:
    """Rows of text, by the column names above, read and scored: for the preview of an import after its mapping."""
    visits, found = [], []
    for row, known in zip(rows, issues or [()] * len(rows), strict=True):
        visit, wrong = visit_of(row, today=today)
        visits.append(visit)
        found.append([*known, *wrong])
    return score_visits(visits, found)


def visit_of(row: Mapping[str, str | None], *, today: date) -> tuple[Visit, list[Issue]]:
    """What a row of text says, and what in it cannot be read. A cell that cannot be read is unknown in the Visit."""
    cells = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    reader = _RowReader(cells, today)
    visit = Visit(
        sex=reader.choice("sex", SEX, "M or F", about="sex"),
        age_days=reader.age_days(),
        age_months=reader.number("age_months", about="age"),
        weight_kg=reader.number("weight_kg"),
        length_height_cm=reader.number("length_height_cm"),
        measured=reader.choice("measured", POSITION, "lying or standing", about="length_height_cm"),
        head_circumference_cm=reader.number("head_circumference_cm"),
        oedema=bool(reader.choice("oedema", OEDEMA, "y or n", about="weight_kg")),
        gestational_age_weeks=reader.gestation(),
    )
    return visit, reader.issues


class _RowReader:
    def __init__(self, cells: dict[str, str], today: date) -> None:
        self.cells, self.today = cells, today
        self.issues: list[Issue] = []

    def text(self, column: str) -> str | None:
        text = self.cells.get(column, "")
        return None if text.lower() in UNKNOWN else text

    def wrong(self, code: str, about: str, message: str) -> None:
        self.issues.append(Issue(code, about, message))

    def number(self, column: str, *, about: str | None = None) -> float | None:
        text = self.text(column)
        if text is None or NUMBER.fullmatch(text):
            return None if text is None else float(text)
        about = about or column
        if re.fullmatch(r"\d*,\d+", text):
            self.wrong("decimal_comma", about, f"{column} {text!r} has a comma: write a point for decimals")
        elif re.fullmatch(r"[-−]\d+(\.\d+)?", text):
            self.wrong("negative", about, f"{column} {text!r} is negative")
        else:
            self.wrong("not_a_number", about, f"{column} {text!r} is not a plain number")
        return None

    def choice(self, column: str, meaning: dict[str, object], words: str, *, about: str):
        text = self.text(column)
        if text is None:
            return None
        if text.lower() not in meaning:
            self.wrong(f"{column}_unknown", about, f"{column} {text!r} must be {words}")
        return meaning.get(text.lower())

    def age_days(self) -> float | None:
        days = self.number("age_days", about="age")
        birth, measured = self.day("birth_date"), self.day("measured_on")
        for column, on in (("birth_date", birth), ("measured_on", measured)):
            if on is not None and on > self.today:
                self.wrong("future_date", "age", f"{column} {on} lies in the future")
        if birth is None or measured is None:
            return days
        between = (measured - birth).days
        if between < 0:
            self.wrong("measured_before_birth", "age", f"measured on {measured}, before the birth on {birth}")
            return days
        if days is not None and days != between:
            self.wrong("ages_disagree", "age", f"age_days says {days:g}, but the dates are {between} days apart")
        return float(between)

    def day(self, column: str) -> date | None:
        text = self.text(column)
        if text is None:
            return None
        if DATE.fullmatch(text):
            try:
                return date.fromisoformat(text)
            except ValueError:
                pass
        self.wrong("not_a_date", "age", f"{column} {text!r} is not a date as YYYY-MM-DD")
        return None

    def gestation(self) -> float | None:
        text = self.text("gestational_age_weeks")
        if text is None:
            return None
        weeks_and_days = GESTATION.fullmatch(text)
        low, high = GESTATION_WEEKS
        if weeks_and_days and low <= int(weeks_and_days[1]) <= high:
            return int(weeks_and_days[1]) + int(weeks_and_days[2] or 0) / 7
        self.wrong(
            "gestational_age_unclear",
            "age",
            f"gestational_age_weeks {text!r} must be completed weeks from {low} to {high}, or weeks and days as 30+4",
        )
        return None


def _text(name: str, content: bytes) -> str:
    if b"\0" in content:
        raise FileRefused("not_text", f"the file {name} is no text: save it as CSV (UTF-8)")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _check_header(name: str, columns: tuple[str, ...]) -> None:
    missing = [] if "sex" in columns else ["sex"]
    if not any(set(needed) <= set(columns) for needed in AGE_COLUMNS):
        missing.append("an age (age_days, age_months, or birth_date and measured_on)")
    if not set(MEASUREMENT_COLUMNS) & set(columns):
        missing.append(f"a measurement ({', '.join(MEASUREMENT_COLUMNS)})")
    if missing:
        raise FileRefused("column_missing", f"{name} lacks a column for {' and '.join(missing)}")


def _wrong_length(found: int, expected: int) -> list[Issue]:
    if found == expected:
        return []
    more = found > expected
    message = f"the row has {found} cells, the header {expected}" + (
        ": a decimal comma without quotes?" if more else ""
    )
    return [Issue("too_many_cells" if more else "too_few_cells", "row", message)]


def _two_decimals(score: object) -> str:
    return f"{score.z:.2f}" if isinstance(score, GrowthZ) else ""


def issue_lines(table: ScoredTable, limit: int) -> Iterable[str]:
    """ "line 3: ..." of the first `limit` issues, and how many more there are."""
    issues = [(row.line, issue) for row in table.rows for issue in row.scored.issues]
    for line, issue in issues[:limit]:
        yield f"line {line}: {issue.message}" + (": not computed" if issue.withholds else "")
    if len(issues) > limit:
        yield f"and {len(issues) - limit} more; the column {FLAGS} has them all"
