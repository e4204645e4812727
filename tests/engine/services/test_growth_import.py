"""engine.services.growth_import: every bad row flagged, nothing imported that nobody has seen."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import AuditEvent, GrowthVisit, Patient, Sex, VisitSource
from engine.errors import Conflict, NotAllowed, Refused
from engine.findings.growth_mapping import DateOrder, Mapping, guess
from engine.findings.growth_table import read_cells
from engine.services import child_growth, growth_import
from engine.services.accounts import demo_reader, service_actor
from engine.services.visit_checks import State

READER = demo_reader()
TODAY = date(2026, 11, 24)
HEADER = (
    "patient_id,measured_on,sex,birth_date,age_months,weight_kg,length_height_cm,measured,head_circumference_cm,"
    "oedema,gestational_age_weeks,site,height_for_age_z"
)
GOOD = "ID1,2025-01-15,M,,,18.5,110,standing,,,,A,"


@pytest.fixture(autouse=True)
def children(session: Session) -> list[Patient]:
    """ID1, a boy of 5 years at the good visit; ID2, a girl born 100 days before 2026-11-24; ID3, of whom nothing is
    known; and two of different issuers with the ID TWIN."""
    known = [
        Patient(pseudonym="P-AAAAAA", patient_id="ID1", sex=Sex.MALE, birth_date=date(2020, 1, 15)),
        Patient(pseudonym="P-BBBBBB", patient_id="ID2", sex=Sex.FEMALE, birth_date=date(2026, 8, 16)),
        Patient(pseudonym="P-CCCCCC", patient_id="ID3"),
        Patient(pseudonym="P-DDDDDD", patient_id="TWIN", issuer="a", sex=Sex.FEMALE, birth_date=date(2020, 1, 1)),
        Patient(pseudonym="P-EEEEEE", patient_id="TWIN", issuer="b", sex=Sex.FEMALE, birth_date=date(2020, 1, 1)),
    ]
    session.add_all(known)
    session.commit()
    return known


def table(*lines: str, header: str = HEADER):
    return read_cells("visits.csv", "\n".join([header, *lines]).encode())


def mapped(cells, **said) -> Mapping:
    return Mapping(guess(cells.columns), **said)


def checked(session: Session, *lines: str, header: str = HEADER, **said):
    cells = table(*lines, header=header)
    return growth_import.preview(session, READER, cells, mapped(cells, **said), today=TODAY).rows


def stored(session: Session) -> list[tuple]:
    rows = session.scalars(select(GrowthVisit).order_by(GrowthVisit.id))
    return [(row.patient_fk, row.measured_on.isoformat(), row.length_height_cm, row.weight_kg) for row in rows]


BAD = {
    "height in metres": ("ID1,2025-01-15,M,,,18.5,1.10,standing,,,,,", "length_height_in_metres"),
    "height in inches": ("ID1,2025-01-15,M,,,18.5,43.3,standing,,,,,", "length_height_in_inches"),
    "weight in grams": ("ID1,2025-01-15,M,,,18500,110,standing,,,,,", "weight_in_grams"),
    "decimal comma": ('ID1,2025-01-15,M,,,"18,5",110,standing,,,,,', "decimal_comma"),
    "decimal comma without quotes": ("ID1,2025-01-15,M,,,18,5,110,standing,,,,,", "too_many_cells"),
    "too few cells": ("ID1,2025-01-15,M", "too_few_cells"),
    "future date": ("ID1,2026-11-25,M,,,18.5,110,standing,,,,,", "future_date"),
    "before birth": ("ID1,2019-01-15,M,,,18.5,110,standing,,,,,", "measured_before_birth"),
    "date of another order": ("ID1,15/01/2025,M,,,18.5,110,standing,,,,,", "not_a_date"),
    "no date": ("ID1,,M,,,18.5,110,standing,,,,,", "no_date"),
    "swapped columns": ("ID1,2025-01-15,M,,,110,18.5,standing,,,,,", "weight_and_height_swapped"),
    "swapped head and length": ("ID2,2026-11-20,F,,,,39.5,lying,60,,,,", "head_and_height_swapped"),
    "newborn of 20 kg": ("ID2,2026-08-17,F,,,20,50,lying,,,,,", "weight_impossible"),
    "unknown child": ("ID9,2025-01-15,M,,,18.5,110,standing,,,,,", "child_unknown"),
    "two children of that ID": ("TWIN,2025-01-15,F,,,18.5,110,standing,,,,,", "child_ambiguous"),
    "no child": (",2025-01-15,M,,,18.5,110,standing,,,,,", "child_missing"),
    "another sex": ("ID1,2025-01-15,F,,,18.5,110,standing,,,,,", "sex_differs"),
    "sex unclear": ("ID1,2025-01-15,boy,,,18.5,110,standing,,,,,", "sex_unknown"),
    "another birth date": ("ID1,2025-01-15,M,2020-01-16,,18.5,110,standing,,,,,", "birth_date_differs"),
    "an age that cannot be": ("ID1,2025-01-15,M,,48,18.5,110,standing,,,,,", "ages_disagree"),
    "nothing measured": ("ID1,2025-01-15,M,,,,,standing,,,,,", "nothing_measured"),
    "position unclear": ("ID1,2025-01-15,M,,,18.5,110,upright,,,,,", "measured_unknown"),
    "negative": ("ID1,2025-01-15,M,,,-18.5,110,standing,,,,,", "negative"),
    "text": ("ID1,2025-01-15,M,,,18.5 kg,110,standing,,,,,", "not_a_number"),
    "gestation unclear": ("ID1,2025-01-15,M,,,18.5,110,standing,,,300,,", "gestational_age_unclear"),
}


@pytest.mark.parametrize(("line", "code"), BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_flagged_and_never_imported(session: Session, line: str, code: str) -> None:
    cells = table(GOOD, line)
    good, bad = growth_import.preview(session, READER, cells, mapped(cells), today=TODAY).rows
    assert good.state is State.READY
    assert bad.state is State.REFUSED
    assert code in [issue.code for issue in bad.issues], bad.issues
    summary = growth_import.import_visits(
        session, READER, cells, mapped(cells), "f" * 64, confirmed_lines=(2, 3), today=TODAY
    )
    assert (summary.imported, summary.left_out) == (1, {State.REFUSED: 1})
    assert len(stored(session)) == 1


DOUBTFUL = {
    "weight in pounds, or a heavy child": ("ID1,2025-01-15,M,,,40.8,110,standing,,,,,", "weight_in_pounds"),
    "beyond what WHO believes": ("ID1,2025-01-15,M,,,18.5,140,standing,,,,,", "height_for_age_implausible"),
    "child of unknown sex and age": ("ID3,2025-01-15,,,,18.5,110,standing,,,,,", "no_sex"),
    "supplied z is no number": ("ID1,2025-01-15,M,,,18.5,110,standing,,,,,high", "not_a_number"),
}


@pytest.mark.parametrize(("line", "code"), DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_a_doubtful_row_comes_in_only_when_somebody_says_so(session: Session, line: str, code: str) -> None:
    cells = table(line)
    [row] = growth_import.preview(session, READER, cells, mapped(cells), today=TODAY).rows
    assert row.state is State.TO_CHECK and code in row.doubts
    take = (session, READER, cells, mapped(cells), "f" * 64)
    assert growth_import.import_visits(*take, today=TODAY).imported == 0
    assert stored(session) == []
    assert growth_import.import_visits(*take, confirmed_lines=[2], today=TODAY).imported == 1
    assert code in session.scalars(select(GrowthVisit.doubts)).one()


def test_duplicates_within_the_file_and_against_what_is_here(session: Session) -> None:
    other = GOOD.replace("18.5", "19.5")
    first, same, differs = checked(session, GOOD, GOOD, other)
    assert [row.state for row in (first, same, differs)] == [State.REFUSED] * 3
    assert [issue.code for issue in first.issues] == ["two_visits_on_one_day"]
    assert [issue.code for issue in same.issues] == ["duplicate_row"]
    assert "line 2" in differs.issues[0].message
    first, same = checked(session, GOOD, GOOD)
    assert (first.state, same.state) == (State.READY, State.REFUSED)

    cells = table(GOOD)
    take = (session, READER, cells, mapped(cells), "f" * 64)
    assert growth_import.import_visits(*take, today=TODAY).imported == 1
    again = growth_import.import_visits(*take, confirmed_lines=[2], today=TODAY)
    assert (again.imported, again.left_out) == (0, {State.HERE_ALREADY: 1})
    [differs] = checked(session, other)
    assert differs.state is State.REFUSED and "110 cm, 18.5 kg" in differs.issues[0].message
    assert len(stored(session)) == 1


def test_what_the_user_says_of_the_file_counts(session: Session) -> None:
    header = "Kind;Datum;Größe;Gewicht"
    cells = table("ID1;15.01.2025;1,10;18,5", "ID1;15.01.2024;1,02;16.5", header=header)
    mapping = Mapping(
        {"child": "Kind", "measured_on": "Datum", "length_height_cm": "Größe", "weight_kg": "Gewicht"},
        {"length_height_cm": "m"},
        decimal=",",
        dates=DateOrder.DOTS,
    )
    good, point = growth_import.preview(session, READER, cells, mapping, today=TODAY).rows
    assert (good.state, point.state) == (State.READY, State.REFUSED)
    growth_import.import_visits(session, READER, cells, mapping, "f" * 64, today=TODAY)
    assert stored(session) == [(good.patient_fk, "2025-01-15", 110.0, 18.5)]
    event = session.scalars(select(AuditEvent).where(AuditEvent.action == "growth.imported")).one()
    assert event.detail["units"] == {"length_height_cm": "m"} and event.detail["imported"] == 1


def test_a_child_that_shrinks_is_doubtful_beside_its_earlier_visits(session: Session) -> None:
    rows = checked(
        session, GOOD, "ID1,2025-07-15,M,,,19,106.5,standing,,,,,", "ID1,2026-01-15,M,,,20,117,standing,,,,,"
    )
    assert [row.state for row in rows] == [State.READY, State.TO_CHECK, State.READY]
    assert rows[1].issues[0].message == "length_height_cm 106.5 cm, but 110 cm on 2025-01-15: check both"
    cells = table(GOOD)
    growth_import.import_visits(session, READER, cells, mapped(cells), "f" * 64, today=TODAY)
    [earlier] = checked(session, "ID1,2024-01-15,M,,,17,113,standing,,,,,")
    assert earlier.doubts == ("length_height_fell",)


def test_a_gestational_age_counts_for_every_visit_of_the_child(session: Session, children: list[Patient]) -> None:
    first = "ID2,2026-11-20,F,,,4.8,56,lying,,,30+4,,"
    second = "ID2,2026-10-20,F,,,3.2,50,lying,,,,,"
    rows = checked(session, second, first)
    assert [row.state for row in rows] == [State.READY] * 2
    assert all({"corrected_age", "before_term"} & {issue.code for issue in row.issues} for row in rows)
    cells = table(second)
    growth_import.import_visits(session, READER, cells, mapped(cells), "f" * 64, today=TODAY)
    uncorrected = session.scalars(select(GrowthVisit.height_for_age_z)).one()
    cells = table(first)
    growth_import.import_visits(session, READER, cells, mapped(cells), "f" * 64, today=TODAY)
    session.expire_all()
    assert children[1].gestational_age_weeks == pytest.approx(30 + 4 / 7)
    corrected = session.scalars(select(GrowthVisit.height_for_age_z).order_by(GrowthVisit.id)).first()
    assert corrected != uncorrected
    [differs] = checked(session, "ID2,2026-09-20,F,,,3.2,50,lying,,,32,,")
    assert [issue.code for issue in differs.issues][:1] == ["gestation_differs"] and differs.state is State.REFUSED


def test_the_pseudonym_names_a_child_too(session: Session, children: list[Patient]) -> None:
    rows = checked(session, GOOD.replace("ID1", "P-AAAAAA"), GOOD.replace("ID1,2025-01-15,M", "P-DDDDDD,2025-01-15,F"))
    assert [row.patient_fk for row in rows] == [children[0].id, children[3].id]
    assert [row.state for row in rows] == [State.READY] * 2


def test_rows_left_out_come_back_with_what_to_correct(session: Session) -> None:
    cells = table(GOOD, *(line for line, _ in BAD.values()))
    shown = growth_import.preview(session, READER, cells, mapped(cells), today=TODAY)
    wrong = [row.line for row in shown.rows if row.state is not State.READY]
    rows = list(csv.DictReader(io.StringIO(growth_import.rows_left_out(cells, shown, wrong))))
    assert [int(row["line"]) for row in rows] == wrong
    assert all(row["what to correct"] for row in rows)
    assert dict.fromkeys(code for _, code in BAD.values()).keys() <= {code for code, _, _ in shown.issues()}


def test_a_mapping_that_cannot_do_is_refused(session: Session) -> None:
    cells = table(GOOD)
    for mapping, code in (
        (Mapping({}), "not_mapped"),
        (Mapping({**guess(cells.columns), "weight_kg": "length_height_cm"}), "mapped_twice"),
    ):
        with pytest.raises(Refused) as refused:
            growth_import.preview(session, READER, cells, mapping, today=TODAY)
        assert refused.value.code == code
    with pytest.raises(NotAllowed):
        growth_import.preview(session, service_actor("worker"), cells, mapped(cells), today=TODAY)


# ---------------------------------------------------------------- the form


def test_the_form_checks_in_the_same_way(session: Session, children: list[Patient]) -> None:
    boy = children[0].id
    typed = {"measured_on": "2025-01-15", "length_height_cm": "110", "weight_kg": "18,5", "measured": "standing"}
    with pytest.raises(Refused) as refused:
        child_growth.add_visit(session, READER, boy, typed, today=TODAY)
    assert refused.value.code == "decimal_comma"
    typed["weight_kg"] = "40.8"
    with pytest.raises(Refused) as refused:
        child_growth.add_visit(session, READER, boy, typed, today=TODAY)
    assert refused.value.code == "to_check" and "pounds" in str(refused.value)
    doubts = child_growth.check_visit(session, READER, boy, typed, today=TODAY).doubts
    visit_id = child_growth.add_visit(session, READER, boy, typed, seen=doubts, today=TODAY)
    visit = session.get(GrowthVisit, visit_id)
    assert (visit.source, visit.doubts) == (VisitSource.FORM, list(doubts))
    with pytest.raises(Refused) as refused:
        child_growth.add_visit(session, READER, boy, {**typed, "weight_kg": "18.5"}, today=TODAY)
    assert refused.value.code == "visit_on_that_day"


def test_a_withdrawn_visit_makes_way_for_the_right_one(session: Session, children: list[Patient]) -> None:
    typed = {"measured_on": "2025-01-15", "length_height_cm": "109"}
    visit_id = child_growth.add_visit(session, READER, children[0].id, typed, today=TODAY)
    with pytest.raises(Refused, match="few words"):
        child_growth.withdraw_visit(session, READER, visit_id, "  ")
    child_growth.withdraw_visit(session, READER, visit_id, "Another child's.")
    with pytest.raises(Conflict):
        child_growth.withdraw_visit(session, READER, visit_id, "Again.")
    assert child_growth.visits_of(session, READER, children[0].id).visits == ()
    child_growth.add_visit(session, READER, children[0].id, {**typed, "length_height_cm": "110"}, today=TODAY)
    assert session.scalar(select(func.count(GrowthVisit.id))) == 2
    actions = session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)).all()
    changes = [action for action in actions if action != "patient.viewed"]
    assert changes == ["growth.entered", "growth.withdrawn", "growth.entered"]


def test_children_are_found_by_pseudonym_or_patient_id(session: Session, children: list[Patient]) -> None:
    typed = {"measured_on": "2025-01-15", "length_height_cm": "110"}
    child_growth.add_visit(session, READER, children[0].id, typed, today=TODAY)
    everybody = child_growth.find_children(session, READER)
    assert (everybody[0].pseudonym, everybody[0].visits) == ("P-AAAAAA", 1)
    assert len(everybody) == 5
    assert [one.pseudonym for one in child_growth.find_children(session, READER, "id2")] == ["P-BBBBBB"]
    assert [one.pseudonym for one in child_growth.find_children(session, READER, "EEEE")] == ["P-EEEEEE"]
    assert child_growth.find_children(session, READER, "%") == []
