"""How good the model is, how readers decide, how the work goes: figures with their intervals, and a report of them."""

from __future__ import annotations

from html import escape

import streamlit as st

from engine.dashboard_sheet import Sheet
from engine.services import figures
from engine.services.figure_filters import FigureFilter, choices
from ui import database, errors, state, words
from ui.components import dashboard_charts, dashboard_filters, page_parts, report_buttons


@errors.shown()
def show() -> None:
    user = state.current_user()
    with database.session() as session:
        found = choices(session, user)
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="dashboard-bar"):
            kind = dashboard_filters.kind()
            task, all_tasks = dashboard_filters.task(kind)
            field = None if kind == "Operations" else dashboard_filters.field(task)
            filter = dashboard_filters.details(kind, task, all_tasks, found)
            st.space("stretch")
            downloads = st.container(horizontal=True, gap="small", width="content")
        if kind == "Model":
            sheet = figures.model_sheet(session, user, filter, field)
        elif kind == "Readers":
            sheet = figures.reader_sheet(session, user, filter, field)
        else:
            sheet = figures.operation_sheet(session, user, filter)
    with downloads:
        report_buttons.show(sheet)
    heading(sheet)
    if not any(chart.n for chart in sheet.charts):
        nothing_chosen = FigureFilter(task=task, all_tasks=all_tasks, version_id=filter.version_id)
        page_parts.notice(what_would_fill(kind, filtered=filter != nothing_chosen))
    for alert in sheet.alerts:
        page_parts.notice(alert, "alert")
    dashboard_charts.tiles(sheet.tiles)
    dashboard_charts.grid(sheet)
    st.html(f'<div class="chart-note">{escape(" ".join(sheet.notes))}</div>')


def what_would_fill(kind: str, *, filtered: bool) -> str:
    if filtered:
        return "No case is in this selection: take a filter away, or choose another task."
    if kind == "Operations":
        return "Nothing has been received for this yet: add films on the upload page."
    return "Nothing has been decided for this yet: the figures come with the decisions on the review page."


def heading(sheet: Sheet) -> None:
    """What the figures are of."""
    said = " · ".join(f"{escape(name)} <b>{escape(value)}</b>" for name, value in sheet.filter_words)
    phantom = f'<span class="tag">phantoms among them · {words.NOT_FOR_DIAGNOSIS}</span>' if sheet.is_phantom else ""
    st.html(f'<div class="figures-of"><span>{said}</span>{phantom}</div>')


show()
