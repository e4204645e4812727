"""What is on the screen as one page, PDF or HTML; made when it is asked for."""

from __future__ import annotations

import streamlit as st

from db.types import utc_now
from engine.dashboard_sheet import Sheet
from engine.services import dashboard_report
from ui import state


def show(sheet: Sheet, key: str = "report") -> None:
    name = f"pediscreen-{sheet.title.lower().replace(' ', '-')}"
    made_by = state.current_user().display_name
    st.download_button(
        "Report (PDF)", lambda: dashboard_report.as_pdf(sheet, utc_now(), made_by), f"{name}.pdf", "application/pdf",
        on_click="ignore", key=f"{key}-pdf",
    )  # fmt: skip
    st.download_button(
        "Report (HTML)", lambda: dashboard_report.as_html(sheet, utc_now(), made_by).encode(), f"{name}.html",
        "text/html", on_click="ignore", key=f"{key}-html",
    )  # fmt: skip
