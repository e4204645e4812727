"""Small parts that every page shares: its title, its empty state, what it is waiting for."""

from __future__ import annotations

import shutil
import tempfile
from html import escape
from pathlib import Path
from typing import Literal

import streamlit as st

from db.models import StudyStatus
from engine.services.reading import LOST
from engine.services.worklist import Overview
from ui import words

START_WORKER = "pediscreen worker"


def title(text: str, beside: str = "") -> None:
    st.html(f'<div class="page-title"><h1>{escape(text)}</h1><span>{escape(beside)}</span></div>')


def empty(what: str, how_html: str) -> None:
    """Says what would fill the page and how. `how_html` is ours, never a user's text."""
    st.html(f'<div class="empty"><strong>{escape(what)}</strong>{how_html}</div>')


def notice(text: str, kind: str = "") -> None:
    st.html(f'<div class="notice {kind}">{escape(text)}</div>')


def waiting_for_reads(overview: Overview) -> None:
    """While studies await their read: how many, and who works on them; how to start a worker where there is none."""
    waiting = overview.by_status.get(StudyStatus.AWAITING_READ, 0)
    if not waiting:
        return
    studies = words.counted(waiting, "study awaits its read", "studies await their read")
    alive = [worker for worker in overview.workers if worker.alive]
    if alive:
        notice(f"{studies}. {alive[0].detail or 'The worker is at it.'} This list follows by itself.")
    else:
        last = max(overview.workers, key=lambda worker: worker.at, default=None)
        why = f" {last.detail}" if last and (last.detail or "").startswith(LOST) else ""
        notice(f"{studies}, and no worker is running.{why} Start it with: {START_WORKER}")


def caption(text: str) -> None:
    st.html(f'<span class="quiet">{escape(text)}</span>')


def pager(total: int, page_size: int, key: str, width: int | Literal["content"] = "content") -> None:
    """The numbers of a list's pages, where there is more than one; the one chosen is in the session under `key`."""
    pages = -(-total // page_size)
    if pages > 1:
        st.pagination(pages, key=key, width=width)


def facts(pairs: dict[str, str]) -> None:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs.items())
    st.html(f'<dl class="facts">{rows}</dl>')


def zipped(folder: Path) -> bytes:
    """Made when it is asked for."""
    with tempfile.TemporaryDirectory(prefix="pediscreen-export-") as scratch:
        return Path(shutil.make_archive(str(Path(scratch) / folder.name), "zip", folder)).read_bytes()
