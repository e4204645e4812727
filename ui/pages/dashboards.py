"""How good the model is, how readers decide, how the work goes: figures with their intervals, and a report of them."""

from __future__ import annotations

from html import escape

import streamlit as st

from db.types import utc_now
from engine.dashboard_sheet import Sheet
from engine.services import dashboard_report, figures
from engine.services.figure_filters import choices
from ui import database, errors, state, words
from ui.components import dashboard_charts, dashboard_filters, page_parts


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
        report(sheet, user.display_name)
    heading(sheet)
    for alert in sheet.alerts:
        page_parts.notice(alert, "alert")
    dashboard_charts.tiles(sheet.tiles)
    dashboard_charts.grid(sheet)
    st.html(f'<div class="chart-note">{escape(" ".join(sheet.notes))}</div>')


def heading(sheet: Sheet) -> None:
    """What the figures are of."""
    said = " · ".join(f"{escape(name)} <b>{escape(value)}</b>" for name, value in sheet.filter_words)
    phantom = f'<span class="tag">phantoms among them · {words.NOT_FOR_DIAGNOSIS}</span>' if sheet.is_phantom else ""
    st.html(f'<div class="figures-of"><span>{said}</span>{phantom}</div>')


def report(sheet: Sheet, made_by: str) -> None:
    """The state on the screen on one page; made when it is asked for."""
    name = f"pediscreen-{sheet.title.lower()}"
    st.download_button(
        "Report (PDF)", lambda: dashboard_report.as_pdf(sheet, utc_now(), made_by), f"{name}.pdf", "application/pdf",
        on_click="ignore", key="report-pdf",
    )  # fmt: skip
    st.download_button(
        "Report (HTML)", lambda: dashboard_report.as_html(sheet, utc_now(), made_by).encode(), f"{name}.html",
        "text/html", on_click="ignore", key="report-html",
    )  # fmt: skip


show()
