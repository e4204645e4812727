"""One child: the growth chart, the visits, and the form that adds one."""

from __future__ import annotations

from datetime import date

import streamlit as st

from engine.errors import Refused
from engine.findings.bone_age import BoneAgeSds
from engine.findings.growth import Indicator
from engine.findings.growth_visits import GrowthZ, Issue
from engine.findings.reference import Refusal
from engine.services import child_bone_ages, child_growth, growth_sheets
from engine.services.child_bone_ages import BoneAgeOfFilm
from engine.services.child_growth import ChildGrowth, ChildRow, GrowthVisitView
from engine.services.visit_checks import WAITS, CheckedVisit, State
from ui import database, errors, state, words
from ui.components import case_table, growth_charts, page_parts, report_buttons
from ui.components.case_table import Column, Line

INDICATORS = list(growth_charts.NAMES)
PICTURES = {"png": "Picture as PNG", "svg": "as SVG"}
POSITIONS = {"lying": "lying", "standing": "standing"}
COLUMNS = [
    Column("day", "Visit", "29%"),
    Column("height", "Height, z", "18.5%", align="right"),
    Column("weight", "Weight, z", "17.5%", align="right"),
    Column("bmi", "BMI, z", "17.5%", align="right"),
    Column("head", "Head, z", "17.5%", align="right"),
]
OF_COLUMN = {
    "height": Indicator.HEIGHT,
    "weight": Indicator.WEIGHT,
    "bmi": Indicator.BMI,
    "head": Indicator.HEAD,
}


def show() -> None:
    child = choose()
    if child is None:
        return
    with database.session() as session:
        growth = child_growth.visits_of(session, state.current_user(), child)
        bone_ages = child_bone_ages.bone_ages_of(session, state.current_user(), child, growth.visits)
    left, right = st.columns([1.2, 1], gap="medium")
    with left:
        chart(growth, bone_ages)
    with right:
        about(growth, bone_ages)
        visits(growth)
        form(growth)


def choose() -> int | None:
    """The child, by a search and a choice among what it finds."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input(
            "Search",
            placeholder="Search pseudonym or patient ID",
            label_visibility="collapsed",
            width=260,
            key="growth_search",
            persist_state="session",
        )
        current = state.growth_child()
        with database.session() as session:
            found = child_growth.find_children(session, state.current_user(), search)
            if current is not None and not search and all(row.patient_id != current for row in found):
                found = [child_growth.child_row(session, state.current_user(), current), *found]
        if not found:
            chosen = None
        else:
            rows = {row.patient_id: row for row in found}
            chosen = st.selectbox(
                "Child",
                list(rows),
                index=list(rows).index(current) if current in rows else 0,
                format_func=lambda patient_id: _child_words(rows[patient_id]),
                label_visibility="collapsed",
                width=420,
                key=f"growth_child_{search}",
            )
    if chosen is None:
        if search:
            page_parts.empty("No child matches", "Try a part of the pseudonym or of the patient ID.")
        else:
            page_parts.empty(
                "No children yet", "Children come with their films: add one on the upload page. Their visits come here."
            )
        return None
    state.choose_growth_child(chosen)
    return chosen


def _child_words(row: ChildRow) -> str:
    born = f"born {words.day(row.birth_date)}" if row.birth_date else "birth date not known"
    visits = words.counted(row.visits, "visit") if row.visits else "no visits"
    return f"{row.pseudonym}, {words.CHILD.get(row.sex, 'sex not known')}, {born}, {visits}"


def chart(growth: ChildGrowth, bone_ages: list[BoneAgeOfFilm]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        indicator = st.segmented_control(
            "Measurement",
            INDICATORS,
            default=INDICATORS[0],
            required=True,
            format_func=growth_charts.NAMES.get,
            label_visibility="collapsed",
            key="growth_indicator",
            persist_state="session",
        )
        curves = st.segmented_control(
            "Lines",
            list(growth_charts.CURVES),
            default="centiles",
            required=True,
            format_func=growth_charts.CURVES.get,
            label_visibility="collapsed",
            key="growth_curves",
            persist_state="session",
        )
        image = image_format()
    if growth.sex is None:
        page_parts.notice("The child's sex is not known, so there are no lines and no z-scores: enter it on a case.")
    if growth.birth_date is None:
        page_parts.notice("The birth date is not known, so no age and no z-score: enter it on a case of the child.")
    figure = growth_charts.child_chart(growth, indicator, bone_ages, curves)
    growth_charts.show(
        figure,
        key=f"growth-{growth.pseudonym}-{indicator}",
        alt=f"{growth_charts.NAMES[indicator]} of {growth.pseudonym} on WHO's curves, with bone ages",
        rows=_numbers(growth, bone_ages),
        image=image,
    )
    with st.container(horizontal=True, width="content"):
        report_buttons.show(growth_sheets.child_sheet(growth, bone_ages))


def image_format() -> str:
    return st.segmented_control(
        "What the camera of the charts saves",
        list(PICTURES),
        default="png",
        required=True,
        format_func=PICTURES.get,
        label_visibility="collapsed",
        key="growth_image",
        persist_state="session",
    )


def _numbers(growth: ChildGrowth, bone_ages: list[BoneAgeOfFilm]) -> list[list[object]]:
    rows: list[list[object]] = [
        ["what", "date", "age_months", *(f"{name}_z" for name in INDICATORS), "height_cm", "weight_kg",
         "head_circumference_cm", "bone_age_months", "bone_age_sds", "phantom"]
    ]  # fmt: skip
    for visit in growth.visits:
        scores = [visit.scored.values[indicator] for indicator in INDICATORS]
        z = [round(score.z, 2) if isinstance(score, GrowthZ) else "" for score in scores]
        rows.append(
            ["visit", visit.measured_on, _blank(visit.age_months), *z, _blank(visit.length_height_cm),
             _blank(visit.weight_kg), _blank(visit.head_circumference_cm), "", "", visit.is_phantom]
        )  # fmt: skip
    for film in bone_ages:
        sds = round(film.sds.sds, 2) if isinstance(film.sds, BoneAgeSds) else ""
        rows.append(
            ["film, decided" if film.is_decided else "film, read", film.acquired_on or "", round(film.age_months, 2),
             *[""] * len(INDICATORS), _blank(film.height_cm), "", "", film.bone_age_months, sds, ""]
        )  # fmt: skip
    return rows


def _blank(value: float | None) -> float | str:
    return "" if value is None else round(value, 2)


def about(growth: ChildGrowth, bone_ages: list[BoneAgeOfFilm]) -> None:
    """Who the child is, and what the latest visit and film say."""
    facts = {
        "Child": f"{growth.pseudonym}, {words.CHILD.get(growth.sex, 'sex not known')}, "
        + (f"born {words.day(growth.birth_date)}" if growth.birth_date else "birth date not known")
    }
    if growth.gestational_age_weeks is not None:
        weeks, days = divmod(round(growth.gestational_age_weeks * 7), 7)
        facts["Born at"] = f"{weeks} weeks and {words.counted(days, 'day')} of gestation"
    if growth.visits:
        latest = growth.visits[-1]
        facts["Latest visit"] = f"{words.day(latest.measured_on)}, {words.age(latest.age_months)}"
        if latest.scored.age_months is not None and latest.scored.age_basis == "corrected age":
            facts["Age basis"] = f"corrected age, {latest.scored.age_months:.1f} months"
    if bone_ages:
        film = bone_ages[-1]
        said = "decided" if film.is_decided else "read, not decided"
        facts["Latest bone age"] = f"{words.age(film.bone_age_months)} at {words.age(film.age_months)} ({said})"
        facts["Bone-age SDS"] = (
            film.sds.reason if isinstance(film.sds, Refusal) else f"{film.sds.sds:+z.1f} ({film.sds.table_name})"
        )
    page_parts.facts(facts)
    if any(visit.is_phantom for visit in growth.visits):
        page_parts.notice(f"Phantom visits, made up: {words.NOT_FOR_DIAGNOSIS}.")


def visits(growth: ChildGrowth) -> None:
    if not growth.visits:
        page_parts.empty("No visits yet", "Enter one below, or take in a file under <em>From a file</em>.")
        return
    st.html('<div class="block-title section"><span>Visits: value and z-score</span></div>')
    clicked = case_table.show(
        COLUMNS,
        [line(visit) for visit in reversed(growth.visits)],
        label="Visits",
        key=f"visits_{growth.patient_id}",
        height="15.5rem",
    )
    if clicked.open is not None:
        detail(next(visit for visit in growth.visits if visit.visit_id == clicked.open))


def line(visit: GrowthVisitView) -> Line:
    doubtful = any(issue.code.endswith("_implausible") or issue.withholds for issue in visit.scored.issues)
    cells: dict = {
        "day": {
            "text": words.day(visit.measured_on),
            "note": words.age(visit.age_months),
            "tone": "soon" if doubtful or set(visit.doubts) - WAITS else "",
        },
    }
    for name, value in (
        ("height", visit.length_height_cm),
        ("weight", visit.weight_kg),
        ("bmi", visit.scored.bmi_kg_m2),
        ("head", visit.head_circumference_cm),
    ):
        score = visit.scored.values[OF_COLUMN[name]]
        if value is not None:
            z = f"{score.z:+z.2f}" if isinstance(score, GrowthZ) else "no z"
            cells[name] = {"text": f"{value:.1f}", "note": z}
    return Line(id=visit.visit_id, label=f"Visit of {words.day(visit.measured_on)}", cells=cells)


@st.dialog("Visit", width="medium")
def detail(visit: GrowthVisitView) -> None:
    with errors.shown():
        facts = {"Visit": f"{words.day(visit.measured_on)}, {words.age(visit.age_months)}"}
        for indicator in INDICATORS:
            score = visit.scored.values[indicator]
            facts[growth_charts.NAMES[indicator]] = (
                words.sentence(words.growth_remark(score.reason))
                if isinstance(score, Refusal)
                else f"{score.measurement:.1f} {score.unit}, z {score.z:+z.2f}, centile {score.centile_percent:.1f} "
                f"({score.standard}, {score.age_basis})"
            )
        if visit.position:
            facts["Measured"] = visit.position
        if visit.site:
            facts["Site"] = visit.site
        source = "by form" if visit.source == "form" else "from a file"
        facts["Entered"] = f"{source} by {visit.entered_by}, {words.moment(visit.entered_at)}"
        page_parts.facts(facts)
        show_issues(visit.scored.issues)
        reason = st.text_input("Withdraw it because", placeholder="For example: another child's", max_chars=500)
        if st.button("Withdraw the visit"):
            with database.session() as session:
                child_growth.withdraw_visit(session, state.current_user(), visit.visit_id, reason)
            st.rerun()


def show_issues(issues: tuple[Issue, ...]) -> None:
    said = {issue.message: issue.withholds for issue in issues}
    for message, withholds in said.items():
        page_parts.notice(words.sentence(words.growth_remark(message)), "conflict" if withholds else "")


# ---------------------------------------------------------------- the form


def form(growth: ChildGrowth) -> None:
    with st.expander("Add a visit", expanded=not growth.visits):
        turn = state.visit_round()
        first, second = st.columns(3), st.columns(3)
        with first[0]:
            day = st.date_input(
                "Measured on", value=None, min_value=date(1990, 1, 1), format="DD/MM/YYYY", key=f"visit_day_{turn}"
            )
        cells = {"measured_on": day.isoformat() if day else ""}
        for place, (name, label) in zip(
            (first[1], first[2], second[0]),
            (
                ("length_height_cm", "Length or height (cm)"),
                ("weight_kg", "Weight (kg)"),
                ("head_circumference_cm", "Head (cm)"),
            ),
            strict=True,
        ):
            with place:
                cells[name] = st.text_input(label, key=f"visit_{name}_{turn}", max_chars=20)
        with second[1]:
            cells["measured"] = (
                st.segmented_control("Measured", list(POSITIONS), key=f"visit_position_{turn}", width="stretch") or ""
            )
        with second[2]:
            cells["oedema"] = "y" if st.checkbox("Oedema", key=f"visit_oedema_{turn}") else ""
            if growth.gestational_age_weeks is None:
                cells["gestational_age_weeks"] = st.text_input(
                    "Born at (weeks+days)", key=f"visit_gestation_{turn}", max_chars=5, placeholder="40+0"
                )
        if any(text for name, text in cells.items() if name != "oedema"):
            decide(growth.patient_id, cells, turn)


def decide(patient_id: int, cells: dict[str, str], turn: int) -> None:
    """What is typed is checked as it stands; what is doubtful is stored only by somebody who says that it is right."""
    with database.session() as session:
        checked = child_growth.check_visit(session, state.current_user(), patient_id, cells)
    measured = any(cells[name].strip() for name in ("length_height_cm", "weight_kg", "head_circumference_cm"))
    if not (cells["measured_on"] and measured):
        page_parts.caption("A visit needs its date and at least one measurement.")
        return
    show_issues(checked.issues)
    preview(checked)
    sure = True
    if checked.state is State.TO_CHECK:
        sure = st.checkbox("I have checked this, and it is right", key=f"visit_sure_{turn}_{'-'.join(checked.doubts)}")
    refused = checked.state in (State.REFUSED, State.HERE_ALREADY)
    if st.button("Store the visit", type="primary", disabled=refused or not sure):
        store(patient_id, cells, checked)


def preview(checked: CheckedVisit) -> None:
    scores = [
        f"{growth_charts.NAMES[indicator].lower()} z {score.z:+z.2f}"
        for indicator, score in checked.scored.values.items()
        if indicator in growth_charts.NAMES and isinstance(score, GrowthZ)
    ]
    if scores:
        page_parts.caption(", ".join(scores))


def store(patient_id: int, cells: dict[str, str], checked: CheckedVisit) -> None:
    try:
        with database.session() as session:
            child_growth.add_visit(session, state.current_user(), patient_id, cells, seen=checked.doubts)
    except Refused as refusal:  # something changed since it was checked
        st.error(words.sentence(words.growth_remark(str(refusal))))
        return
    state.next_visit_round()
    st.rerun()
