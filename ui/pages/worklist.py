"""The worklist: what is there, what is most urgent, and the way into a case."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from db.models import StudyStatus
from engine.findings.answers import Task
from engine.findings.urgency import Level
from engine.services import worklist
from engine.services.worklist import Overview, Sort, Whose, WorklistFilter, WorklistRow
from ui import database, errors, state, words
from ui.components import case_table, hand_over, hotkeys, key_queue, page_parts, saved_lists
from ui.components.case_table import Column, Line

PAGE_SIZE = 18  # fill a 900-pixel screen
ALL = "all"
OLDEST_YEARS = 19

COLUMNS = [
    Column("urgency", "Urgency", "26.5%", sort="urgency"),
    Column("exam", "Examination", "9%"),
    Column("patient", "Patient", "10.5%", sort="patient"),
    Column("age", "Age", "5.5%", sort="age", align="right"),
    Column("acquired", "Acquired", "8%", sort="acquired", align="right"),
    Column("site", "Site", "6%", sort="site"),
    Column("read", "Read", "13%"),
    Column("reader", "Reader", "9%"),
    Column("status", "Status", "12.5%", sort="status"),
]
LOOK_EVERY = {True: "3s", False: "10s"}  # with reads pending; for what other readers do


@errors.shown()
def show() -> None:
    key_queue.watch(key_queue.CASE_KEYS)  # also for what is pressed while the case that Enter opens is drawn
    with database.session() as session:
        user = state.current_user()
        overview = worklist.overview(session, user)
        if overview.total == 0:
            page_parts.title("Worklist")
            page_parts.empty(
                "No studies yet",
                "Add films on the upload page, or run <code>pediscreen ingest FOLDER</code>. "
                "<code>make run</code> on a fresh machine fills a demo worklist.",
            )
            return
        sites = worklist.sites(session, user)
    hotkeys.bind(press={"E": "hand_over"}, focus={"/": "search"})
    state.set_worklist_filter(filters(overview, sites))
    notes = hand_over.notes(None)
    table(overview, notes)


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
        with st.container(key="search", width=230):
            search = st.text_input(
                "Search",
                placeholder="Search child or accession",
                help="By pseudonym, patient ID or accession number",
                label_visibility="collapsed",
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
            whose = st.segmented_control(
                "Whose cases",
                list(Whose),
                default=Whose.ANYBODYS,
                required=True,
                format_func=words.WHOSE.get,
                key="filter_whose",
                persist_state="session",
            )
        saved_lists.popover(current, lambda chosen: choose(chosen, overview, sites))
        hand_over.popover(None)
    return replace(
        current,
        statuses=() if status == ALL else (status,),
        urgencies=tuple(urgencies),
        tasks=tuple(tasks),
        sites=tuple(chosen_sites),
        search=search.strip(),
        age_months_range=None if ages == (0, OLDEST_YEARS) else (ages[0] * 12, ages[1] * 12 + 11.99),
        whose=whose,
    )


def choose(filter: WorklistFilter, overview: Overview, sites: list[str]) -> None:
    """Set every choice as `filter` has it; what there is none of now, an urgency or a site, is left out."""
    ages = filter.age_months_range
    for key, value in {
        "filter_status": filter.statuses[0] if filter.statuses else ALL,
        "filter_urgency": [level for level in filter.urgencies if overview.by_urgency.get(level)],
        "filter_task": list(filter.tasks),
        "filter_site": [site for site in filter.sites if site in sites],
        "filter_age": (0, OLDEST_YEARS) if ages is None else (int(ages[0] // 12), int(ages[1] // 12)),
        "filter_whose": filter.whose,
        "filter_search": "",
    }.items():
        st.session_state[key] = value
    state.set_worklist_filter(filter)


def status_label(status: StudyStatus | str, overview: Overview) -> str:
    if status == ALL:
        return f"All {overview.total}"
    return f"{words.STATUS[status]} {overview.by_status.get(status, 0)}"


def _more_label(current: WorklistFilter) -> str:
    active = [current.tasks, current.sites, current.age_months_range, current.whose is not Whose.ANYBODYS]
    active = sum(map(bool, active))
    return f"Filters ({active})" if active else "Filters"


def table(shown: Overview, notes: int) -> None:
    """The lines of one page. It looks again every few seconds: reads come, and others take cases."""
    st.fragment(_table, run_every=LOOK_EVERY[bool(shown.by_status.get(StudyStatus.AWAITING_READ, 0))])(shown, notes)


@errors.shown()
def _table(shown: Overview, notes: int) -> None:
    """`shown`: the counts above, which only a run of the whole page can renew; `notes`: how many stand there too."""
    user, filter = state.current_user(), state.worklist_filter()
    with database.session() as session:
        chosen = st.session_state.get(state.worklist_page_key(), 1)
        page = worklist.worklist_page(session, user, filter, chosen, PAGE_SIZE)
        overview = worklist.overview(session, user)
    if overview.by_status != shown.by_status:
        st.rerun()
    page_parts.waiting_for_reads(overview)
    if not page.rows:
        page_parts.empty("Nothing matches", "Choose another status, search for something else, or take a filter away.")
        return
    clicked = case_table.show(
        columns(filter),
        [line(row) for row in page.rows],
        label="Worklist",
        height=f"calc(100dvh - {15.8 + 4 * min(notes, 3)}rem)",
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


def columns(filter: WorklistFilter) -> list[Column]:
    """In the order of what teaches most, the reason stands beside the urgency, in place of the date."""
    if filter.sort is not Sort.LEARNING:
        return COLUMNS
    urgency, *others = (column for column in COLUMNS if column.name != "acquired")
    return [replace(urgency, width="14.5%"), Column("why", "To learn from", "20%"), *others]


def footer(total: int, chosen: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        first = (chosen - 1) * PAGE_SIZE + 1
        st.html(f'<span class="quiet">{first} to {min(total, chosen * PAGE_SIZE)} of {total:,}</span>')
        st.space("stretch")
        page_parts.pager(total, PAGE_SIZE, state.worklist_page_key(), width=340)


def line(row: WorklistRow) -> Line:
    exam = words.BODY_PART.get(row.task, "Not known yet")
    sides = "both" if len(row.lateralities) > 1 else "".join(words.SIDE[side] for side in row.lateralities)
    child = words.CHILD.get(row.sex)
    status = row.review_words or words.STATUS[row.status]
    warnings = words.counted(row.warning_count, "warning") if row.warning_count else None
    done = row.status in (StudyStatus.REVIEWED, StudyStatus.REJECTED)
    return Line(
        id=row.study_id,
        label=f"{exam} {sides}, {row.pseudonym}, {words.age(row.age_months)}",
        done=done,
        cells={
            "urgency": urgency_cell(row),
            "why": {"text": "", "note": row.learn_reason} if row.learn_reason else None,
            "exam": {"text": exam, "note": sides} if sides else exam,
            "patient": {"text": row.pseudonym, "note": child} if child else {"text": row.pseudonym},
            "age": row.age_words or words.age(row.age_months) if row.age_months is not None else None,
            "acquired": words.day(row.acquired_on) if row.acquired_on else None,
            "site": row.site,
            "read": {"text": row.read_words, "tone": "" if row.status is not StudyStatus.AWAITING_READ else "quiet"},
            "reader": reader_cell(row),
            "status": {"text": status, "tone": "" if done else "quiet", "note": warnings},
        },
    )


def urgency_cell(row: WorklistRow) -> dict[str, str]:
    """How urgent, by when while it is open, and why."""
    if row.urgency is Level.NONE:
        return {"text": ""}
    parts = [row.urgency_reason or ""]
    if row.act_by is not None and row.status in (StudyStatus.AWAITING_READ, StudyStatus.AWAITING_REVIEW):
        parts.insert(0, words.deadline(row.act_by))
    note = " · ".join(part for part in parts if part) + (" (rule unverified)" if row.urgency_unverified else "")
    return {"text": words.URGENCY[row.urgency], "tone": row.urgency.value, "note": note}


def reader_cell(row: WorklistRow) -> dict[str, str] | None:
    """Who has it open, else whose it is; notes that wait for somebody."""
    notes = words.counted(row.note_count, "note") if row.note_count else ""
    if row.open_at is not None:
        return {"text": "open here" if row.open_at.is_me else row.open_at.reader, "tone": "accent", "note": notes}
    if row.assigned_to is not None:
        return {"text": "for you" if row.assigned_to.is_me else f"for {row.assigned_to.reader}", "note": notes}
    return {"text": notes} if notes else None


show()
