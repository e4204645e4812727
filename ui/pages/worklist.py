"""The worklist: what is there, what is most urgent, and the way into a case."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from db.models import StudyStatus
from engine.findings.answers import Task
from engine.findings.urgency import Level
from engine.services import worklist
from engine.services.worklist import Overview, WorklistFilter, WorklistRow
from ui import database, errors, state, words
from ui.components import case_table, page_parts
from ui.components.case_table import Column, Line

PAGE_SIZE = 18  # fill a 900-pixel screen
ALL = "all"
OLDEST_YEARS = 19

COLUMNS = [
    Column("urgency", "Urgency", "30%", sort="urgency"),
    Column("exam", "Examination", "9.5%"),
    Column("patient", "Patient", "11.5%", sort="patient"),
    Column("age", "Age", "6.5%", sort="age", align="right"),
    Column("acquired", "Acquired", "8.5%", sort="acquired", align="right"),
    Column("site", "Site", "7%", sort="site"),
    Column("read", "Read", "15%"),
    Column("status", "Status", "12%", sort="status"),
]


@errors.shown()
def show() -> None:
    with database.session() as session:
        user = state.current_user()
        overview = worklist.overview(session, user)
        if overview.total == 0:
            page_parts.empty(
                "No studies yet",
                "Add films on the upload page, or run <code>pediscreen ingest FOLDER</code>. "
                "<code>make run</code> on a fresh machine fills a demo worklist.",
            )
            return
        state.set_worklist_filter(filters(overview, worklist.sites(session, user)))
        table(overview)


def filters(overview: Overview, sites: list[str]) -> WorklistFilter:
    """Two lines of choices; the counts are those of the whole worklist."""
    current = state.worklist_filter()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        status = st.segmented_control(
            "Status",
            [*StudyStatus, ALL],
            default=StudyStatus.AWAITING_REVIEW,
            required=True,
            format_func=lambda status: status_label(status, overview),
            label_visibility="collapsed",
            key="filter_status",
            persist_state="session",
        )
        urgencies = st.pills(
            "Urgency",
            [level for level in reversed(Level) if level is not Level.NONE and overview.by_urgency.get(level)],
            selection_mode="multi",
            format_func=lambda level: f"{words.URGENCY[level]} {overview.by_urgency[level]}",
            label_visibility="collapsed",
            key="filter_urgency",
            persist_state="session",
        )
        st.space("stretch")
        search = st.text_input(
            "Search",
            placeholder="Search pseudonym, patient ID, accession",
            label_visibility="collapsed",
            width=290,
            key="filter_search",
            persist_state="session",
        )
        with st.popover(_more_label(current)):
            tasks = st.pills(
                "Examination",
                list(Task),
                selection_mode="multi",
                format_func=words.TASK.get,
                key="filter_task",
                persist_state="session",
            )
            chosen_sites = st.multiselect("Site", sites, key="filter_site", persist_state="session")
            ages = st.slider(
                "Age in years", 0, OLDEST_YEARS, (0, OLDEST_YEARS), key="filter_age", persist_state="session"
            )
    return replace(
        current,
        statuses=() if status == ALL else (status,),
        urgencies=tuple(urgencies),
        tasks=tuple(tasks),
        sites=tuple(chosen_sites),
        search=search.strip(),
        age_months_range=None if ages == (0, OLDEST_YEARS) else (ages[0] * 12, ages[1] * 12 + 11.99),
    )


def status_label(status: StudyStatus | str, overview: Overview) -> str:
    if status == ALL:
        return f"All {overview.total}"
    return f"{words.STATUS[status]} {overview.by_status.get(status, 0)}"


def _more_label(current: WorklistFilter) -> str:
    active = bool(current.tasks) + bool(current.sites) + bool(current.age_months_range)
    return f"Filters ({active})" if active else "Filters"


def table(shown: Overview) -> None:
    """The lines of one page. While reads are pending it looks again every few seconds."""
    pending = shown.by_status.get(StudyStatus.AWAITING_READ, 0)
    st.fragment(_table, run_every="3s" if pending else None)(shown)


@errors.shown()
def _table(shown: Overview) -> None:
    """`shown`: the counts above, which only a run of the whole page can renew."""
    user, filter = state.current_user(), state.worklist_filter()
    with database.session() as session:
        chosen = st.session_state.get(state.worklist_page_key(), 1)
        page = worklist.worklist_page(session, user, filter, chosen, PAGE_SIZE)
        overview = worklist.overview(session, user)
    if overview.by_status != shown.by_status:
        st.rerun()
    page_parts.waiting_for_reads(overview)
    if not page.rows:
        page_parts.empty("Nothing matches", "Choose another status, or take a filter away.")
        return
    clicked = case_table.show(
        COLUMNS,
        [line(row) for row in page.rows],
        label="Worklist",
        sort=filter.sort,
        descending=filter.descending,
        marked=state.last_opened(),
    )
    if clicked.sort:
        state.sort_worklist(clicked.sort)
        st.rerun()
    if clicked.open is not None:
        state.open_study(clicked.open)
    footer(page.total, chosen)


def footer(total: int, chosen: int) -> None:
    pages = -(-total // PAGE_SIZE)
    with st.container(horizontal=True, vertical_alignment="center"):
        first = (chosen - 1) * PAGE_SIZE + 1
        st.html(f'<span class="quiet">{first} to {min(total, chosen * PAGE_SIZE)} of {total:,}</span>')
        st.space("stretch")
        if pages > 1:
            st.pagination(pages, key=state.worklist_page_key(), width=340)


def line(row: WorklistRow) -> Line:
    exam = words.BODY_PART.get(row.task, "Not known yet")
    sides = "both" if len(row.lateralities) > 1 else "".join(words.SIDE[side] for side in row.lateralities)
    child = words.CHILD.get(row.sex)
    urgency = {"text": ""}
    if row.urgency is not Level.NONE:
        reason = row.urgency_reason or ""
        note = f"{reason} (rule unverified)" if row.urgency_unverified else reason
        urgency = {"text": words.URGENCY[row.urgency], "tone": row.urgency.value, "note": note}
    status = row.review_words or words.STATUS[row.status]
    warnings = words.counted(row.warning_count, "warning") if row.warning_count else None
    done = row.status in (StudyStatus.REVIEWED, StudyStatus.REJECTED)
    return Line(
        id=row.study_id,
        label=f"{exam} {sides}, {row.pseudonym}, {words.age(row.age_months)}",
        done=done,
        cells={
            "urgency": urgency,
            "exam": {"text": exam, "note": sides} if sides else exam,
            "patient": {"text": row.pseudonym, "note": child} if child else {"text": row.pseudonym},
            "age": row.age_words or words.age(row.age_months) if row.age_months is not None else None,
            "acquired": words.day(row.acquired_on) if row.acquired_on else None,
            "site": row.site,
            "read": {"text": row.read_words, "tone": "" if row.status is not StudyStatus.AWAITING_READ else "quiet"},
            "status": {"text": status, "tone": "" if done else "quiet", "note": warnings},
        },
    )


show()
