"""Where somebody is signed in."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from engine.services.sessions import SessionRow
from ui import words

BROWSERS = {"Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}


def show(rows: Sequence[SessionRow], *, current: int | None = None) -> None:
    """`current`: the session that asks."""
    lines = "".join(_line(row, is_current=row.session_id == current) for row in rows)
    st.html(f'<ul class="history">{lines}</ul>')


def _line(row: SessionRow, *, is_current: bool) -> str:
    parts = [_browser(row.browser), f"from {row.address or 'an unknown address'}"]
    parts += ["this browser"] if is_current else []
    parts += ["locked"] if row.locked else []
    times = f"since {words.moment(row.started_at)}, last active {words.moment(row.active_at)}"
    return f"<li><span>{escape(' · '.join(parts))}</span><time>{escape(times)}</time></li>"


def _browser(user_agent: str) -> str:
    return next((name for mark, name in BROWSERS.items() if mark in user_agent), user_agent[:40] or "unknown browser")
