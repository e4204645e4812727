"""The growth page: entering and importing visits with their faults, and figures of all children."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from db.models import GrowthVisit, Patient, Sex
from engine.services import child_growth
from engine.services.accounts import demo_reader
from tests.benchmarks import growth_dashboard
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import AddCase

READER = demo_reader()
VIEWS = ("child", "file", "children", "bone-age", "supplied")


@pytest.fixture
def boy(session: Session) -> Patient:
    """Five years old on 15 Jan 2025."""
    patient = Patient(pseudonym="P-AAAAAA", patient_id="ID1", sex=Sex.MALE, birth_date=date(2020, 1, 15))
    session.add(patient)
    session.commit()
    return patient


def button(at: AppTest, label: str):
    return next(one for one in at.button if one.label.startswith(label))


def field(at: AppTest, label: str):
    return next(one for one in at.text_input if one.label == label)


def figures(at: AppTest) -> list[str]:
    return [chart.proto.spec for chart in at.get("plotly_chart")]


def test_every_view_says_what_would_fill_it(open_page: OpenPage, database_url: str) -> None:
    said = {view: everything_said(open_page("growth", view=view)) for view in VIEWS}
    assert "Children come with their films" in said["child"]
    assert "No file chosen" in said["file"]
    assert all("No visits yet" in said[view] for view in VIEWS[2:])


def test_a_typed_visit_is_checked_as_it_stands_and_stored(open_page: OpenPage, session: Session, boy: Patient) -> None:
    at = open_page("growth", view="child", child=boy.id)
    assert "No visits yet" in everything_said(at)
    at.date_input[0].set_value(date(2025, 1, 15))
    field(at, "Length or height (cm)").set_value("1.10")
    field(at, "Weight (kg)").set_value("18,5").run()
    said = everything_said(at)
    assert "Length or height 1.1 looks like metres (110 cm)" in said and "Weight '18,5' has a comma" in said
    assert button(at, "Store the visit").disabled
    field(at, "Length or height (cm)").set_value("110")
    field(at, "Weight (kg)").set_value("18.5").run()
    assert "height z +0.06" in everything_said(at)
    button(at, "Store the visit").click().run()
    [visit] = child_growth.visits_of(session, READER, boy.id).visits
    assert (visit.length_height_cm, visit.weight_kg, visit.measured_on) == (110, 18.5, date(2025, 1, 15))
    assert field(at, "Weight (kg)").value == ""


def test_a_doubtful_visit_needs_a_word(open_page: OpenPage, session: Session, boy: Patient) -> None:
    at = open_page("growth", view="child", child=boy.id)
    at.date_input[0].set_value(date(2025, 1, 15))
    field(at, "Length or height (cm)").set_value("140").run()
    assert "most likely an error" in everything_said(at)
    assert button(at, "Store the visit").disabled
    next(box for box in at.checkbox if box.label.startswith("I have checked")).check().run()
    button(at, "Store the visit").click().run()
    assert session.scalars(select(GrowthVisit.doubts)).one() == ["height_for_age_implausible"]


LINES = [
    "Patient ID,Date of visit,Height (cm),Weight kg,HAZ",
    "ID1,2025-01-15,110,18.5,0.06",
    "ID1,2024-01-15,1.02,16.4,",
    "ID1,2023-01-15,96,,",
    "ID1,2023-01-15,96,,",
    "ID9,2025-01-15,110,18.5,",
    "ID1,2022-01-15,106,14,",
]


def test_a_file_is_imported_after_its_preview(open_page: OpenPage, session: Session, boy: Patient) -> None:
    at = open_page("growth", view="file")
    at.file_uploader[0].set_value([("visits.csv", "\n".join(LINES).encode(), "text/csv")]).run()
    said = everything_said(at)
    assert "Length or height 1.02 looks like metres (102 cm)" in said
    assert "No child here has the patient ID or pseudonym 'ID9'" in said
    assert "The same visit as in line 4" in said
    assert session.scalars(select(GrowthVisit)).all() == [], "nothing is stored by looking"
    session.rollback()  # ends the reading transaction
    assert button(at, "Import").label == "Import 1 visit"
    next(box for box in at.checkbox if box.label.startswith("Also the 2 lines to check")).check().run()
    button(at, "Import 3 visits").click().run()
    assert "3 visits of 1 child stored. Left out: 3 refused" in everything_said(at)
    visits = child_growth.visits_of(session, READER, boy.id).visits
    assert [visit.length_height_cm for visit in visits] == [106, 96, 110]


FAULTS = {
    "ID1,2025-01-15,1.10,18.5": "Length or height 1.1 looks like metres (110 cm): check the unit",
    "ID1,2025-01-15,43.3,18.5": "Length or height 43.3 looks like inches (110 cm): check the unit",
    'ID1,2025-01-15,110,"18,5"': "Weight '18,5' has a comma: write a point for decimals",
    "ID1,2099-01-15,110,18.5": "Date of the visit 2099-01-15 lies in the future",
    "ID1,2025-01-15,18.5,110": "make sense only the other way round: check the columns",
    "ID1,2024-01-15,102,16.4\nID1,2024-01-15,102,16.4": "The same visit as in line 2",
    "ID1,2020-01-16,50,20": "Weight 20 cannot be right at 1 day: check value and unit",
}


@pytest.mark.parametrize(("lines", "words"), FAULTS.items(), ids=FAULTS.values())
def test_a_faulty_line_is_refused_and_says_why(
    open_page: OpenPage, session: Session, boy: Patient, lines: str, words: str
) -> None:
    at = open_page("growth", view="file")
    content = f"Patient ID,Date of visit,Height (cm),Weight kg\n{lines}\n".encode()
    at.file_uploader[0].set_value([("visits.csv", content, "text/csv")]).run()
    said = everything_said(at)
    assert words in said and "Refused" in said
    assert button(at, "Import").disabled is (lines.count("\n") == 0)
    assert session.scalars(select(GrowthVisit)).all() == []


def test_the_columns_are_chosen_where_names_do_not_say(open_page: OpenPage, session: Session, boy: Patient) -> None:
    text = "Kind;am;Größe;Gewicht\nID1;15.01.2025;1,10;18,5\n".encode()
    at = open_page("growth", view="file")
    at.file_uploader[0].set_value([("visits.csv", text, "text/csv")]).run()
    assert "Choose the column for the child and the date and a measurement" in everything_said(at)
    for label, column in (
        ("Child (patient ID or pseudonym)", "Kind"),
        ("Date of the visit", "am"),
        ("Length or height", "Größe"),
        ("Weight", "Gewicht"),
    ):
        next(box for box in at.selectbox if box.label == label).set_value(column)
    at.run()
    assert "not a date as YYYY-MM-DD" in everything_said(at)
    next(box for box in at.selectbox if box.label == "Dates as").set_value("DD.MM.YYYY")
    next(group for group in at.button_group if group.label == "Decimals").set_value(",")
    next(group for group in at.button_group if group.label == "Unit" and "m" in group.options).set_value("m").run()
    button(at, "Import 1 visit").click().run()
    [visit] = child_growth.visits_of(session, READER, boy.id).visits
    assert (visit.length_height_cm, visit.weight_kg) == (110, 18.5)


def test_a_file_that_is_no_table_is_refused_in_words(open_page: OpenPage, database_url: str) -> None:
    at = open_page("growth", view="file")
    at.file_uploader[0].set_value([("visits.csv", b"PK\0\3", "text/csv")]).run()
    assert "The file visits.csv is no text: save it as CSV" in at.error[0].value


def test_a_child_with_films_has_bone_ages_on_the_axis(open_page: OpenPage, session: Session, add_case: AddCase) -> None:
    add_case(answer={"task": "bone_age", "bone_age_months": 100})
    [child] = child_growth.find_children(session, READER)
    for days in (0, 400):
        cells = {"measured_on": str(date(2025, 7, 10) - timedelta(days)), "length_height_cm": str(134 - days // 100)}
        child_growth.add_visit(session, READER, child.patient_id, cells)
    at = open_page("growth", view="child", child=child.patient_id)
    said = everything_said(at)
    assert "8 y 4 m at 9 y 4 m (read, not decided)" in said and "Greulich-Pyle" in said
    [spec] = figures(at)
    assert '"height at bone age"' in spec and '"97 %"' in spec


def test_figures_of_all_children(open_page: OpenPage, session: Session) -> None:
    growth_dashboard.fill(session, 300)
    at = open_page("growth", view="children")
    assert "Each child once" in everything_said(at) and len(figures(at)) == 1
    next(group for group in at.button_group if group.label == "Measurement").set_value("head_circumference_for_age")
    next(group for group in at.button_group if group.label == "Age at the visit").set_value("5-9 y").run()
    assert "Not enough cases (n = 0)" in everything_said(at) and figures(at) == []
    at = open_page("growth", view="bone-age")
    assert "Pearson's r 0." in everything_said(at) and len(figures(at)) == 1
    at = open_page("growth", view="supplied")
    assert "Height" in everything_said(at) and "1.00 1.00 to 1.00 met" in everything_said(at)


def test_no_number_without_enough_children(open_page: OpenPage, session: Session) -> None:
    growth_dashboard.fill(session, 8)
    for view in ("children", "bone-age"):
        at = open_page("growth", view=view)
        assert "not enough cases (n = " in everything_said(at).lower() and figures(at) == []
    assert "not enough cases (n = " in everything_said(open_page("growth", view="supplied"))
