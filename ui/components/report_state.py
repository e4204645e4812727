"""Under a decided case, one quiet line: where its report stands, and the way to the hospital's own viewer."""

from __future__ import annotations

from html import escape

import streamlit as st

from db.sending_tables import DeliveryState
from db.types import utc_now
from engine.services import other_viewer, sent_reports
from engine.services.sent_reports import ReportState
from ui import database, state, words


def show(study_id: int) -> None:
    actor = state.current_user()
    with database.session() as session:
        reports = sent_reports.reports_of_study(session, actor, study_id)
        link = other_viewer.viewer_link(session, actor, study_id)
    lines = [f'<span class="{_tone(report.state)}">{escape(said(report))}</span>' for report in reports]
    if link is not None:
        href = escape(link, quote=True)
        lines.insert(0, f'<a href="{href}" target="_blank" rel="noopener noreferrer">Open in OHIF</a>')
    if lines:
        st.html(f'<div class="report-state">{"".join(lines)}</div>')


def said(report: ReportState) -> str:
    """As Report sent to PACS at 14:02."""
    what = "Withdrawal" if report.is_withdrawal else "Correction" if report.is_correction else "Report"
    where = destination(report.destination)
    match report.state:
        case DeliveryState.SENT:
            return f"{what} sent to {where} at {words.moment(report.sent_at)}" if report.sent_at else f"{what} sent"
        case DeliveryState.WAITING:
            is_later = report.due_at > utc_now()
            return f"{what} goes to {where} {f'at {words.moment(report.due_at)}' if is_later else 'next'}"
        case DeliveryState.SENDING:
            return f"{what} is being sent to {where}"
        case DeliveryState.FAILED:
            return (
                f"{what} not sent to {where} yet: {report.reason}. It is tried again at {words.moment(report.due_at)}"
            )
        case DeliveryState.REFUSED:
            return f"{what} refused by {where}: {report.reason}"
        case DeliveryState.GIVEN_UP:
            return f"{what} not sent to {where}: let go by an administrator"
    return f"{what} not sent to {where}: taken back before it left"


def destination(name: str) -> str:
    """As it stands in the settings."""
    return name.upper()


def _tone(state: DeliveryState) -> str:
    return "amber" if state in (DeliveryState.FAILED, DeliveryState.REFUSED) else "quiet"
