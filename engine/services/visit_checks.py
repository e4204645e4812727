"""Visits before they are stored, from the form and from a file alike: whose they are, what is wrong with them, and
whether they are here already. Nothing doubtful is stored unless somebody who saw it says so.

Limits of what a child can shrink by are defaults of this workstation, unverified; they only ask for a second look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from sqlalchemy.orm import Session

from db.models import GrowthVisit, Patient, Position, Role, VisitSource
from db.repositories import growth as repository
from engine.findings.growth import Indicator
from engine.findings.growth_mapping import CHILD, DAY, SUPPLIED
from engine.findings.growth_table import SEX, visit_of
from engine.findings.growth_visits import HEAD, HEIGHT, WEIGHT, Issue, ScoredVisit, Visit, score_visits
from engine.services import growth_scores
from engine.services.accounts import READERS, Actor, require

MEASUREMENTS = (HEIGHT, WEIGHT, HEAD)
CHECKED_BY_VISIT_OF = (*MEASUREMENTS, "measured", "oedema", "gestational_age_weeks", DAY)
# Explained, and nobody has to decide about it. Before term WHO has no table, and the measurement is right all the same.
NOTES = frozenset({"corrected_age", "oedema", "standing_below_9_months", "before_term"})
# What is not known of the child is no fault of the visit: it is stored, and scored once it becomes known.
WAITS = frozenset({"no_sex", "no_age"})
SHRANK_CM = {HEIGHT: 2.0, HEAD: 1.0}  # unverified
LONGEST_SITE = 128


class State(StrEnum):
    """`to_check`: somebody has to say that it is right."""

    READY = "ready"
    TO_CHECK = "to_check"
    HERE_ALREADY = "here_already"
    REFUSED = "refused"


@dataclass(frozen=True)
class EnteredVisit:
    """`cells` by the fields of growth_mapping, in our units. `patient_fk` where the child is known from elsewhere;
    else the cell CHILD names it, by patient ID or pseudonym. `issues`: known from reading the cells."""

    cells: dict[str, str]
    patient_fk: int | None = None
    line: int | None = None
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True)
class CheckedVisit:
    """`child` is the pseudonym, or the name as entered where no child is found. `scored` is what WHO's tables say of
    it, None where it was not read at all."""

    line: int | None
    child: str
    patient_fk: int | None
    measured_on: date | None
    state: State
    issues: tuple[Issue, ...]
    scored: ScoredVisit | None
    supplied: dict[Indicator, float]
    site: str | None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Codes of what somebody has to have seen before it is stored."""
        return tuple(dict.fromkeys(issue.code for issue in self.issues if issue.code not in NOTES))


def check(session: Session, entered: Sequence[EnteredVisit], *, today: date) -> list[CheckedVisit]:
    """Every visit with its state, in the order given."""
    children = _children(session, entered)
    rows = [_read(one, child, today) for one, child in zip(entered, children, strict=True)]
    _one_gestational_age(rows)
    for row, scored in zip(rows, score_visits([row.visit for row in rows], [row.issues for row in rows]), strict=True):
        row.scored, row.issues = scored, [_waiting(issue) for issue in scored.issues]
        if not any(issue.withholds and issue.code not in WAITS for issue in row.issues) and not _measured(row.visit):
            row.issues.append(Issue("nothing_measured", "row", "no height, weight or head circumference"))
    known = repository.visits_of_patients(session, list({row.patient.id for row in rows if row.patient}))
    _flag_repeated(rows, known)
    _flag_shrunk(rows, known)
    return [_checked(row) for row in rows]


def store(
    session: Session,
    actor: Actor,
    visits: Sequence[CheckedVisit],
    source: VisitSource,
    *,
    source_sha256: str | None = None,
    is_phantom: bool = False,
) -> list[GrowthVisit]:
    """Adds the visits to the transaction; each must have been found READY, or TO_CHECK and confirmed."""
    require(actor, *READERS, Role.SERVICE)
    patients = {patient.id: patient for patient in repository.patients(session, {v.patient_fk for v in visits})}
    stored = []
    for checked in visits:
        patient, visit = patients[checked.patient_fk], checked.scored.visit
        row = GrowthVisit(
            patient_fk=patient.id,
            measured_on=checked.measured_on,
            length_height_cm=visit.length_height_cm,
            position=Position(visit.measured) if visit.measured else None,
            weight_kg=visit.weight_kg,
            head_circumference_cm=visit.head_circumference_cm,
            oedema=visit.oedema,
            site=checked.site,
            doubts=list(checked.doubts),
            source=source,
            source_sha256=source_sha256,
            source_line=checked.line,
            is_phantom=is_phantom,
            entered_by=actor.username,
            **{f"supplied_{indicator}_z": z for indicator, z in checked.supplied.items()},
        )
        growth_scores.keep(patient, row, checked.scored)
        session.add(row)
        stored.append(row)
        if patient.gestational_age_weeks is None and visit.gestational_age_weeks is not None:
            patient.gestational_age_weeks = visit.gestational_age_weeks
            growth_scores.refresh(session, patient)  # visits from before it was known
    session.flush()
    return stored


@dataclass
class _Row:
    entered: EnteredVisit
    patient: Patient | None
    visit: Visit
    issues: list[Issue]
    measured_on: date | None
    supplied: dict[Indicator, float]
    scored: ScoredVisit | None = None
    here_already: bool = False

    @property
    def refused(self) -> bool:
        return any(issue.withholds and issue.code not in WAITS | NOTES for issue in self.issues)

    def wrong(self, code: str, about: str, message: str, *, withholds: bool = True) -> None:
        self.issues.append(Issue(code, about, message, withholds))


def _children(session: Session, entered: Sequence[EnteredVisit]) -> list[Patient | Issue]:
    by_id = {
        patient.id: patient
        for patient in repository.patients(session, {one.patient_fk for one in entered if one.patient_fk is not None})
    }
    names = {one.cells[CHILD] for one in entered if one.patient_fk is None and one.cells.get(CHILD)}
    by_name: dict[str, list[Patient]] = defaultdict(list)
    for patient in repository.patients_by_name(session, sorted(names)):
        for name in {patient.patient_id, patient.pseudonym} & names:
            by_name[name].append(patient)
    return [
        by_id[one.patient_fk] if one.patient_fk is not None else _child(one.cells.get(CHILD), by_name)
        for one in entered
    ]


def _child(name: str | None, by_name: dict[str, list[Patient]]) -> Patient | Issue:
    if not name:
        return Issue("child_missing", "row", "the row names no child")
    found = by_name.get(name, [])
    if len(found) == 1:
        return found[0]
    if found:
        message = f"{len(found)} children have the ID {name!r}, from different issuers: use the pseudonym"
        return Issue("child_ambiguous", "row", message)
    return Issue(
        "child_unknown",
        "row",
        f"no child here has the patient ID or pseudonym {name!r}: correct it, or take in a film of the child first",
    )


def _read(entered: EnteredVisit, child: Patient | Issue, today: date) -> _Row:
    cells = entered.cells
    patient = child if isinstance(child, Patient) else None
    issues = [*entered.issues] if patient else [*entered.issues, child]
    read = {name: cells[name] for name in CHECKED_BY_VISIT_OF if name in cells}
    if patient is not None and patient.sex is not None:
        read["sex"] = patient.sex.value
    if patient is not None and patient.birth_date is not None:
        read["birth_date"] = patient.birth_date.isoformat()
        read |= {name: cells[name] for name in ("age_days", "age_months") if name in cells}
    visit, wrong = visit_of(read, today=today)
    row = _Row(entered, patient, visit, issues + wrong, None, {})
    if DAY in cells and not any(issue.code == "not_a_date" for issue in wrong):
        row.measured_on = date.fromisoformat(cells[DAY])
    elif not any(issue.code == "not_a_date" for issue in row.issues):
        row.wrong("no_date", "age", "the date of the visit is missing")
    if patient is not None:
        _compare_with_child(row, patient)
    for name, indicator in SUPPLIED.items():
        if name in cells:
            row.supplied[indicator] = float(cells[name])
    return row


def _compare_with_child(row: _Row, patient: Patient) -> None:
    """A row that says something else of the child than is known here is probably another child's."""
    cells = row.entered.cells
    if sex := cells.get("sex"):
        read = SEX.get(sex.lower())
        if read is None:
            row.wrong("sex_unknown", "sex", f"sex {sex!r} must be M or F")
        elif patient.sex is not None and read != patient.sex:
            row.wrong("sex_differs", "sex", f"sex {read}, but the child is {patient.sex.value} here: another child?")
    born = cells.get("birth_date")
    if born and patient.birth_date is not None and born != patient.birth_date.isoformat():
        row.wrong("birth_date_differs", "age", "the birth date is not the one known here: another child?")
    weeks = row.visit.gestational_age_weeks
    if weeks is not None and patient.gestational_age_weeks not in (None, weeks):
        row.wrong(
            "gestation_differs",
            "age",
            f"born at {weeks:.1f} weeks, but {patient.gestational_age_weeks:.1f} are known here",
        )


def _waiting(issue: Issue) -> Issue:
    """What the growth module asks of a table is here a fact about the child."""
    if issue.code not in WAITS:
        return issue
    fact = "sex" if issue.code == "no_sex" else "birth date"
    message = f"the child's {fact} is not known here: without z-scores until it is entered on a case of the child"
    return replace(issue, message=message)


def _one_gestational_age(rows: Sequence[_Row]) -> None:
    """What one row says, or is known here, counts for every row of the child."""
    weeks_of: dict[int, float] = {}
    for row in rows:
        if row.patient is None:
            continue
        weeks = row.patient.gestational_age_weeks
        if weeks is None and not row.refused:
            weeks = row.visit.gestational_age_weeks
        if weeks is not None:
            weeks_of.setdefault(row.patient.id, weeks)
    for row in rows:
        known = weeks_of.get(row.patient.id) if row.patient else None
        said = row.visit.gestational_age_weeks
        if known is not None and said is None:
            row.visit = replace(row.visit, gestational_age_weeks=known)
        elif known is not None and said != known and not row.refused:
            message = f"born at {said:.1f} weeks, but another row of the child says {known:.1f}"
            row.wrong("gestation_differs", "age", message)


def _flag_repeated(rows: Sequence[_Row], known: dict[int, list[GrowthVisit]]) -> None:
    first: dict[tuple[int, date], _Row] = {}
    for row in rows:
        if row.refused or row.patient is None or row.measured_on is None:
            continue
        here = next((v for v in known.get(row.patient.id, ()) if v.measured_on == row.measured_on), None)
        if here is not None and _values(row.visit) == _values(here):
            row.here_already = True
            row.wrong("already_here", "row", "this visit is here already", withholds=False)
        elif here is not None:
            message = f"another visit of that day is here ({_words(here)}): withdraw it first if it is wrong"
            row.wrong("visit_on_that_day", "row", message)
        else:
            before = first.setdefault((row.patient.id, row.measured_on), row)
            if before is row:
                continue
            where = f"line {before.entered.line}" if before.entered.line else "an earlier one"
            if _values(before.visit) == _values(row.visit):
                row.wrong("duplicate_row", "row", f"the same visit as in {where}")
                continue
            row.wrong("two_visits_on_one_day", "row", f"another visit of the same day as in {where}: which is right?")
            if not before.refused:
                where = f"line {row.entered.line}" if row.entered.line else "a later one"
                before.wrong(
                    "two_visits_on_one_day", "row", f"another visit of the same day in {where}: which is right?"
                )


def _flag_shrunk(rows: Sequence[_Row], known: dict[int, list[GrowthVisit]]) -> None:
    """A length, height or head circumference well below an earlier one: one of the two may be another child's."""
    timelines: dict[int, list[tuple[date, Visit | GrowthVisit, _Row | None]]] = {
        patient_fk: [(visit.measured_on, visit, None) for visit in visits] for patient_fk, visits in known.items()
    }
    for row in rows:
        if row.patient and row.measured_on and not row.refused and not row.here_already:
            timelines.setdefault(row.patient.id, []).append((row.measured_on, row.visit, row))
    for timeline in timelines.values():
        timeline.sort(key=lambda one: one[0])
        for name, most in SHRANK_CM.items():
            points = [(day, getattr(v, name), row) for day, v, row in timeline if getattr(v, name) is not None]
            for (day, before, row_before), (later, after, row_after) in zip(points, points[1:], strict=False):
                if before - after <= most:
                    continue
                code, unit = f"{name.rsplit('_', 1)[0]}_fell", name.rsplit("_", 1)[1]
                if row_after is not None:
                    message = f"{name} {after:g} {unit}, but {before:g} {unit} on {day}: check both"
                    row_after.wrong(code, name, message, withholds=False)
                elif row_before is not None:
                    message = f"{name} {before:g} {unit}, but only {after:g} {unit} on {later}: check both"
                    row_before.wrong(code, name, message, withholds=False)


def _checked(row: _Row) -> CheckedVisit:
    if row.refused:
        state = State.REFUSED
    elif row.here_already:
        state = State.HERE_ALREADY
    else:
        state = State.READY if all(issue.code in NOTES for issue in row.issues) else State.TO_CHECK
    return CheckedVisit(
        line=row.entered.line,
        child=row.patient.pseudonym if row.patient else row.entered.cells.get(CHILD, ""),
        patient_fk=row.patient.id if row.patient else None,
        measured_on=row.measured_on,
        state=state,
        issues=tuple(row.issues),
        scored=row.scored,
        supplied=row.supplied,
        site=(row.entered.cells.get("site") or "").replace("\0", "")[:LONGEST_SITE] or None,
    )


def _measured(visit: Visit) -> bool:
    return any(value is not None for value in _values(visit))


def _values(visit: Visit | GrowthVisit) -> tuple[float | None, ...]:
    return tuple(getattr(visit, name) for name in MEASUREMENTS)


def _words(visit: GrowthVisit) -> str:
    parts = [
        f"{value:g} {name.rsplit('_', 1)[1]}"
        for name, value in zip(MEASUREMENTS, _values(visit), strict=True)
        if value is not None
    ]
    return ", ".join(parts)
