"""Visits from a file: which column is what, what would become of every row, and the import."""

from __future__ import annotations

import hashlib
from html import escape

import streamlit as st

from engine.findings import growth_mapping
from engine.findings.growth import Indicator
from engine.findings.growth_mapping import UNITS, DateOrder, Mapping
from engine.findings.growth_table import CellTable, read_cells
from engine.findings.growth_visits import HEAD, HEIGHT, WEIGHT, GrowthZ
from engine.services import growth_import
from engine.services.growth_import import ImportSummary, Preview
from engine.services.visit_checks import CheckedVisit, State
from ui import database, state, words
from ui.components import growth_charts, page_parts

PAGE_SIZE = 14
STATES = {
    State.READY: "Ready",
    State.TO_CHECK: "To check",
    State.HERE_ALREADY: "Already here",
    State.REFUSED: "Refused",
}
TONES = {State.READY: "", State.TO_CHECK: "soon", State.HERE_ALREADY: "", State.REFUSED: "urgent"}
LABELS = {
    "child": "Child (patient ID or pseudonym)",
    "measured_on": "Date of the visit",
    HEIGHT: "Length or height",
    WEIGHT: "Weight",
    HEAD: "Head circumference",
    "measured": "Lying or standing",
    "oedema": "Oedema (y, n)",
    "sex": "Sex, to compare",
    "birth_date": "Birth date, to compare",
    "age_days": "Age in days, to compare",
    "age_months": "Age in months, to compare",
    "gestational_age_weeks": "Born at (weeks+days)",
    "site": "Site",
    **{
        name: f"{growth_charts.NAMES[indicator]} z-score, as supplied"
        for name, indicator in growth_mapping.SUPPLIED.items()
    },
}
NEEDED = ("child", "measured_on", HEIGHT, WEIGHT, HEAD)
DECIMALS = {".": "point: 18.5", ",": "comma: 18,5"}
# What in the mapping may be set differently when many rows have the same fault.
ADVICE = {
    "decimal_comma": "If the whole file writes commas, choose so under Decimals.",
    "decimal_point": "If the whole file writes points, choose so under Decimals.",
    "too_many_cells": "Commas both as separator and as decimal sign: save the file with semicolons.",
    "not_a_date": "Choose how the file writes dates.",
    "length_height_in_metres": "If the whole column is in metres, choose that unit.",
    "length_height_in_inches": "If the whole column is in inches, choose that unit.",
    "length_height_in_millimetres": "If the whole column is in millimetres, choose that unit.",
    "weight_in_grams": "If the whole column is in grams, choose that unit.",
    "weight_in_pounds": "If the whole column is in pounds, choose that unit.",
    "weight_and_height_swapped": "If every row has it, the two columns are chosen the wrong way round.",
    "head_and_height_swapped": "If every row has it, the two columns are chosen the wrong way round.",
}


def show() -> None:
    if summary := state.growth_import_summary():
        imported(summary)
    file = st.file_uploader(
        "Visits as CSV",
        type=["csv", "txt", "tsv"],
        key=f"growth_file_{state.growth_file_round()}",
        label_visibility="collapsed",
    )
    if file is None:
        if not state.growth_import_summary():
            page_parts.empty(
                "No file chosen",
                "A CSV file with a line a visit: the child's patient ID or pseudonym, the date, and what was measured. "
                "You see what becomes of every line before anything is stored.",
            )
        return
    content = file.getvalue()
    table = read_cells(file.name, content)
    if not table.rows:
        page_parts.empty("The file has no lines", "Below its header a line is needed for every visit.")
        return
    sha256 = hashlib.sha256(content).hexdigest()
    mapping = choose_mapping(table, sha256)
    if missing := mapping.missing():
        page_parts.notice(f"Choose the column for {' and '.join(missing)}.")
        return
    if twice := mapping.twice():
        page_parts.notice(f"The column {twice[0]} is chosen for two things.", "conflict")
        return
    key = (sha256, repr(mapping))
    preview = state.growth_preview(key)
    if preview is None:
        with st.spinner(f"Checking {words.counted(len(table.rows), 'line')}"), database.session() as session:
            preview = growth_import.preview(session, state.current_user(), table, mapping)
        state.keep_growth_preview(key, preview)
    decide(table, mapping, preview, sha256)


def choose_mapping(table: CellTable, sha256: str) -> Mapping:
    """Columns, units and the way of writing. What is guessed from the names is shown, and can be changed."""
    guessed = growth_mapping.guess(table.columns)
    columns: dict[str, str] = {}
    units: dict[str, str] = {}

    def column(name: str) -> None:
        known = [None, *table.columns]
        chosen = st.selectbox(
            LABELS[name],
            known,
            index=known.index(guessed.get(name)),
            format_func=lambda column: "not in the file" if column is None else column,
            key=f"map_{name}_{sha256}",
        )
        if chosen is not None:
            columns[name] = chosen

    places = st.columns([1.25, 1, 1, 1, 1])
    for place, name in zip(places, NEEDED, strict=True):
        with place:
            column(name)
            if name in UNITS:
                units[name] = st.segmented_control(
                    "Unit", list(UNITS[name]), default=list(UNITS[name])[0], required=True, key=f"unit_{name}_{sha256}",
                    label_visibility="collapsed",
                )  # fmt: skip
            elif name == "child":
                decimal = st.segmented_control(
                    "Decimals", list(DECIMALS), default=".", required=True, format_func=DECIMALS.get,
                    key=f"decimal_{sha256}", label_visibility="collapsed",
                )  # fmt: skip
            else:
                dates = st.selectbox("Dates as", list(DateOrder), key=f"dates_{sha256}", label_visibility="collapsed")
    others = [name for name in LABELS if name not in NEEDED]
    found = sum(name in guessed for name in others)
    with st.expander(f"More columns ({found} found by name)"):
        for first in range(0, len(others), 4):
            for place, name in zip(st.columns(4), others[first : first + 4], strict=False):
                with place:
                    column(name)
    return Mapping(columns, {name: unit for name, unit in units.items() if name in columns}, decimal, dates)


def decide(table: CellTable, mapping: Mapping, preview: Preview, sha256: str) -> None:
    counts = preview.counts()
    advice(preview)
    with st.container(horizontal=True, vertical_alignment="center"):
        shown = st.pills(
            "Lines",
            [one for one in STATES if counts[one]],
            format_func=lambda one: f"{STATES[one]} {counts[one]:,}",
            label_visibility="collapsed",
            key=f"growth_states_{sha256}",
        )
        st.space("stretch")
        sure = False
        if counts[State.TO_CHECK]:
            sure = st.checkbox(
                f"Also the {words.counted(counts[State.TO_CHECK], 'line')} to check: I have looked at each",
                key=f"growth_sure_{sha256}",
            )
        confirmed = [row.line for row in preview.rows if row.state is State.TO_CHECK] if sure else []
        ready = counts[State.READY] + len(confirmed)
        if st.button(f"Import {words.counted(ready, 'visit')}", type="primary", disabled=not ready):
            take_in(table, mapping, sha256, confirmed)
    lines = [row for row in preview.rows if shown is None or row.state is shown]
    pages = -(-len(lines) // PAGE_SIZE)
    key = f"growth_page_{sha256}_{shown}"
    chosen = min(st.session_state.get(key, 1), pages)
    rows_table(lines[(chosen - 1) * PAGE_SIZE : chosen * PAGE_SIZE])
    with st.container(horizontal=True, vertical_alignment="center"):
        wrong = [row.line for row in preview.rows if row.state in (State.REFUSED, State.TO_CHECK)]
        if wrong:
            st.download_button(
                f"The {words.counted(len(wrong), 'line')} refused or to check, as CSV with the reasons",
                data=lambda: growth_import.rows_left_out(table, preview, wrong),
                file_name="visits-to-correct.csv",
                mime="text/csv",
                type="tertiary",
                on_click="ignore",
            )
        st.space("stretch")
        if pages > 1:
            st.pagination(pages, key=key, width=340)


def take_in(table: CellTable, mapping: Mapping, sha256: str, confirmed: list[int]) -> None:
    with st.spinner("Storing the visits"), database.session() as session:
        summary = growth_import.import_visits(
            session, state.current_user(), table, mapping, sha256, confirmed_lines=confirmed
        )
    state.set_growth_import_summary(summary)
    state.next_growth_file_round()
    st.rerun()


def imported(summary: ImportSummary) -> None:
    left = ", ".join(f"{count:,} {STATES[one].lower()}" for one, count in summary.left_out.items())
    visits = words.counted(summary.imported, "visit")
    children = words.counted(summary.children, "child", "children")
    page_parts.notice(f"{visits} of {children} stored." + (f" Left out: {left}." if left else ""))


def advice(preview: Preview) -> None:
    """Faults of many lines that one choice above may put right."""
    found = [(code, count, message) for code, count, message in preview.issues() if count > 1 and code in ADVICE]
    for code, count, message in found[:3]:
        remark = words.sentence(words.growth_remark(message))
        page_parts.notice(f"{words.counted(count, 'line')}, the first: {remark}. {ADVICE[code]}")


def rows_table(lines: list[CheckedVisit]) -> None:
    head = "".join(
        f'<th class="{kind}">{name}</th>'
        for name, kind in (
            ("Line", "number"), ("Child", ""), ("Visit", ""), ("Height cm", "number"), ("Weight kg", "number"),
            ("Head cm", "number"), ("z: height", "number"), ("weight", "number"), ("BMI", "number"),
            ("head", "number"), ("", ""), ("What to know", ""),
        )
    )  # fmt: skip
    st.html(f'<table class="outcomes preview"><tr>{head}</tr>{"".join(_row(line) for line in lines)}</table>')


def _row(row: CheckedVisit) -> str:
    visit = row.scored.visit if row.scored else None
    values = [visit.length_height_cm, visit.weight_kg, visit.head_circumference_cm] if visit else [None] * 3
    z = [
        score.z if row.scored and isinstance(score := row.scored.values[indicator], GrowthZ) else None
        for indicator in (Indicator.HEIGHT, Indicator.WEIGHT, Indicator.BMI, Indicator.HEAD)
    ]
    numbers = "".join(
        f'<td class="number">{"" if value is None else format(value, code)}</td>'
        for value, code in [*((value, ".5g") for value in values), *((one, "+z.2f") for one in z)]
    )
    messages = dict.fromkeys(words.growth_remark(issue.message) for issue in row.issues)
    remarks = words.sentence("; ".join(messages))
    day = words.day(row.measured_on) if row.measured_on else ""
    return (
        f'<tr><td class="number">{row.line}</td><td>{escape(row.child)}</td><td>{day}</td>{numbers}'
        f'<td><span class="tag {TONES[row.state]}">{STATES[row.state]}</span></td><td>{escape(remarks)}</td></tr>'
    )
