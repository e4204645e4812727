"""What a model that reads alongside says differently: the count a task, and each case as a picture."""

from __future__ import annotations

from html import escape

import numpy as np
import streamlit as st
from PIL import Image

from engine.errors import PediScreenError
from engine.findings.answers import Task
from engine.imaging.display import display_pixels
from engine.services import images
from engine.services.accounts import Actor
from engine.services.shadow import DISAGREEMENT_MONTHS, Disagreement, ShadowReport
from ui import database, words

ON_A_PAGE = 8
IN_A_ROW = 4
PICTURE_PX = 300
NEARER = {"shadow": "alongside is nearer", "in_use": "in use is nearer", "equal": "both are as near"}


def summary(report: ShadowReport) -> None:
    """A line a task."""
    rows = "".join(
        f'<tr><td>{words.TASK[Task(one.task)]}</td><td class="number">{one.compared}</td>'
        f'<td class="number">{one.disagree}</td>'
        f'<td class="number">{_apart(one.mean_months_apart)}</td><td class="number">{one.decided or "–"}</td>'
        f'<td class="number">{one.shadow_nearer if one.decided else "–"}</td>'
        f'<td class="number">{one.in_use_nearer if one.decided else "–"}</td></tr>'
        for one in report.tasks
    )
    st.html(
        '<table class="outcomes"><tr><th>Task</th><th class="number">Films read by both</th>'
        '<th class="number">Differ</th><th class="number">Apart on average</th>'
        '<th class="number">Of those decided by a reader</th><th class="number">Alongside nearer</th>'
        f'<th class="number">In use nearer</th></tr>{rows}</table>'
    )
    st.html(
        f'<span class="quiet">Bone ages differ when they are more than {DISAGREEMENT_MONTHS} months apart; ROP and '
        "fractures when any label is another one. Readers had seen the answer of the model in use when they decided, "
        "which favours it.</span>"
    )


def _apart(months: float | None) -> str:
    return "–" if months is None else f"{months:.1f} months"


def pictures(found: list[Disagreement], user: Actor) -> None:
    """The widest apart first, some on a page; of one task where there are several."""
    tasks = [task for task in Task if any(one.task is task for one in found)]
    if len(tasks) > 1:
        task = st.segmented_control(
            "Task",
            tasks,
            default=tasks[0],
            required=True,
            format_func=lambda task: f"{words.TASK[task]} {sum(one.task is task for one in found)}",
            label_visibility="collapsed",
            key="disagreements_task",
            on_change=lambda: st.session_state.pop("disagreements_page", None),
        )
        found = [one for one in found if one.task is task]
    pages = -(-len(found) // ON_A_PAGE)
    page = min(st.session_state.get("disagreements_page", 1), max(pages, 1))
    shown = found[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]
    for start in range(0, len(shown), IN_A_ROW):
        for column, one in zip(st.columns(IN_A_ROW, gap="medium"), shown[start : start + IN_A_ROW], strict=False):
            with column:
                _case(one, user)
    if pages > 1:
        st.pagination(pages, key="disagreements_page")


def _case(one: Disagreement, user: Actor) -> None:
    picture = thumbnail(user.username, one.image_id, user)
    if picture is None:
        st.html('<div class="empty">The film is missing</div>')
    else:
        st.image(picture, width="stretch")
    beside = f" · {one.months_apart} months apart" if one.months_apart is not None else ""
    decided = ""
    if one.decided_words:
        note = f' <span class="quiet">{NEARER[one.nearer]}</span>' if one.nearer else ""
        decided = f"<dt>Reader</dt><dd>{escape(one.decided_words)}{note}</dd>"
    st.html(
        f'<div class="block-title"><span>{words.TASK[one.task]}{beside}</span>'
        f'<a href="/review?study={one.study_id}" target="_self">Open case</a></div>'
        f'<dl class="facts"><dt>In use</dt><dd>{escape(one.in_use_words)}</dd>'
        f"<dt>Alongside</dt><dd>{escape(one.shadow_words)}</dd>{decided}</dl>"
    )


@st.cache_data(max_entries=200, show_spinner=False)
def thumbnail(username: str, image_id: int, _user: Actor) -> np.ndarray | None:
    """A small square with the whole film in it, (PICTURE_PX, PICTURE_PX[, 3]) uint8; None where the film is gone."""
    try:
        with database.session() as session:
            picture = Image.fromarray(display_pixels(images.film(session, _user, image_id)))
    except PediScreenError:
        return None
    picture.thumbnail((PICTURE_PX, PICTURE_PX))
    square = Image.new(picture.mode, (PICTURE_PX, PICTURE_PX))
    square.paste(picture, ((PICTURE_PX - picture.width) // 2, (PICTURE_PX - picture.height) // 2))
    return np.asarray(square)
