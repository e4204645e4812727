"""What comes in from the hospital's systems and what goes out to them, for the hospital's IT."""

from __future__ import annotations

from html import escape

import streamlit as st

from db.sending_tables import DeliveryState
from engine.interop.destinations import KIND_WORDS
from engine.services import orthanc_inbox, other_viewer, receiving, sent_reports
from engine.services.receiving import LoopRow
from engine.services.sent_reports import DestinationRow, ReportRow
from engine.settings import settings
from ui import database, errors, state, words
from ui.components import case_table, page_parts
from ui.components.case_table import Column, Line
from ui.components.report_state import destination

LOOK_EVERY = "3s"
PAGE_SIZE = 20
SENDING = "sending"  # the loop's name (engine.jobs.exchange)
START = "pediscreen exchange"
STATE = {
    DeliveryState.WAITING: "Waiting",
    DeliveryState.SENDING: "Being sent",
    DeliveryState.SENT: "Sent",
    DeliveryState.FAILED: "Tried again",
    DeliveryState.REFUSED: "Needs somebody",
    DeliveryState.GIVEN_UP: "Let go",
    DeliveryState.OVERTAKEN: "Overtaken",
}
TONE = {DeliveryState.FAILED: "soon", DeliveryState.REFUSED: "urgent"}
OPEN = "Not sent yet"
SHOWN = {
    OPEN: (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.FAILED, DeliveryState.REFUSED),
    "Sent": (DeliveryState.SENT,),
    "All": tuple(DeliveryState),
}
LOOP = {
    "storage_scp": "DICOM receiver",
    "orthanc": "Orthanc",
    "watched_folder": "Watched folder",
    "film_compression": "Compression of received films",
}
COLUMNS = [
    Column("study", "Study", "16%"),
    Column("accession", "Accession number", "13%"),
    Column("where", "To", "10%"),
    Column("state", "State", "11%"),
    Column("said", "What was said", "36%"),
    Column("at", "When", "14%", align="right"),
]


@errors.shown()
def show() -> None:
    page_parts.title("Connections", "What comes in from the hospital's systems, and what goes out to them")
    with database.session() as session:  # refuses whoever may not see it, before anything is drawn
        rows = sent_reports.destinations(session, state.current_user())
    left, right = st.columns(2, gap="large")
    with left:
        st.fragment(coming_in, run_every=LOOK_EVERY)()
    with right:
        st.fragment(going_out, run_every=LOOK_EVERY)()
    problem = other_viewer.viewer_problem(settings().viewer_url)
    if problem is not None:
        page_parts.notice(f"The review page shows no link to another viewer: {problem}", "alert")
    if rows:
        st.fragment(reports, run_every=LOOK_EVERY)()


# ---------------------------------------------------------------- what comes in


@errors.shown()
def coming_in() -> None:
    actor = state.current_user()
    with database.session() as session:
        loops = [row for row in receiving.loops(session, actor) if row.name != SENDING]
        senders = receiving.senders(session, actor)
        refusals = receiving.refusals(session, actor, 5)
        orthancs = orthanc_inbox.overview(session, actor)
    st.html('<div class="block-title"><span>Coming in</span></div>')
    if not loops and not senders:
        page_parts.empty(
            "Nothing is received",
            "Set <code>PEDISCREEN_DICOM_PORT</code> for scanners that send here, and start the workstation again; "
            "docs/receive.md has the other ways.",
        )
        return
    for row in loops:
        tone, said, facts = _loop_words(row)
        where = receiving.where(settings(), row.name)
        facts += [
            f"{one.done:,} fetched, {one.waiting + one.ready:,} to come, {one.other:,} left there (no films)"
            for one in orthancs
            if row.name == "orthanc" and one.url == where
        ]
        _card(LOOP.get(row.name, words.sentence(row.name.replace("_", " "))), where, tone, said, facts)
    if senders:
        lines = "".join(
            f"<tr><td>{escape(one.name)}<small class='quiet'> {escape(one.address or '')}</small></td>"
            f"<td class='number'>{one.accepted:,}</td><td class='number'>{one.quarantined:,}</td>"
            f"<td class='number'>{escape(words.moment(one.last_at))}</td></tr>"
            for one in senders
        )
        head = "<th>Sender</th><th class='number'>Films</th><th class='number'>Quarantined</th>"
        st.html(f'<table class="outcomes"><tr>{head}<th class="number">Last</th></tr>{lines}</table>')
    for one in refusals:
        times = f", {one.times} times" if one.times > 1 else ""
        page_parts.notice(f"Turned away: {one.sender or 'no name'} at {one.address}{times}. {one.reason}", "alert")


def _loop_words(row: LoopRow) -> tuple[str, str, list[str]]:
    heard = words.moment(row.heard_at)
    last = f"last success {words.moment(row.last_success_at)}" if row.last_success_at else "nothing yet"
    match row.state:
        case "running":
            return "quiet", "Running", [last]
        case "failing":
            return "soon", f"Tries again: {row.last_error}", [last]
        case "stopped":
            return "quiet", f"Stopped {heard}", [last]
    return "urgent", f"Not heard of since {heard}. Start it with: {START}", [last]


def _card(title: str, where: str, tone: str, said: str, facts: list[str]) -> None:
    st.html(
        f'<div class="connection"><div><strong>{escape(title)}</strong><span class="quiet">{escape(where)}</span></div>'
        f'<p class="{tone}">{escape(said)}</p><p class="quiet">{escape(words.sentence(" · ".join(facts)))}</p></div>'
    )


# ---------------------------------------------------------------- what goes out


@errors.shown()
def going_out() -> None:
    actor = state.current_user()
    with database.session() as session:
        rows = sent_reports.destinations(session, actor)
        loop = next((row for row in receiving.loops(session, actor) if row.name == SENDING), None)
    st.html('<div class="block-title"><span>Going out, once a reader has signed</span></div>')
    if not rows:
        page_parts.empty(
            "Nothing is sent",
            "Name a destination and start the workstation again, for example<br>"
            "<code>PEDISCREEN_SEND_TO_PACS=dicom://ORTHANC@pacs.hospital:4242</code><br>"
            "<code>PEDISCREEN_SEND_TO_EHR=fhir+https://ehr.hospital/fhir</code><br>docs/send.md has them all.",
        )
        return
    why_still = _why_nothing_is_sent(loop)
    if why_still:
        page_parts.notice(why_still, "conflict")
    for row in rows:
        _card(destination(row.name), _where(row), *_destination_words(row))
        if row.waiting and row.failing_since or row.refused:
            st.button(
                f"Send all to {destination(row.name)} again",
                key=f"again_{row.name}",
                on_click=send_all_again,
                args=(row.name,),
            )


def _why_nothing_is_sent(loop: LoopRow | None) -> str | None:
    if loop is None or loop.state in ("silent", "stopped"):
        since = f" since {words.moment(loop.heard_at)}" if loop else ""
        return f"The exchange has not been running{since}, so nothing is sent. Start it with: {START}"
    return loop.last_error if loop.state == "failing" else None


def _where(row: DestinationRow) -> str:
    return f"{KIND_WORDS[row.kind]}, {row.where}" if row.kind and row.where else ""


def _destination_words(row: DestinationRow) -> tuple[str, str, list[str]]:
    facts = [f"{row.sent:,} sent", f"{row.waiting:,} waiting"]
    if row.last_sent_at:
        facts.append(f"last success {words.moment(row.last_sent_at)}")
    elif row.sends_from:
        facts.append(f"sends what is signed from {words.moment(row.sends_from)} on")
    refused = f"{words.counted(row.refused, 'report needs', 'reports need')} somebody" if row.refused else ""
    if not row.is_configured:
        waits = words.counted(row.waiting, "report waits", "reports wait")
        return ("soon" if row.waiting else "quiet"), f"No longer in the settings; {waits} for it", facts
    if row.problem:
        return "urgent", f"Cannot be used as it is configured: {row.problem}", facts
    if row.failing_since:
        again = f" Next attempt {words.moment(row.paused_until)}." if row.paused_until else ""
        said = f"Not reached since {words.moment(row.failing_since)}: {row.reason}.{again}"
        return "soon", " ".join(filter(None, (said, refused))), facts
    if refused:
        return "urgent", refused, facts
    return "quiet", "In order" if row.last_sent_at else "Nothing sent yet", facts


@errors.in_callback()
def send_all_again(name: str) -> None:
    with database.session() as session:
        sent_reports.send_all_again(session, state.current_user(), name)


# ---------------------------------------------------------------- report by report


@errors.shown()
def reports() -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html('<div class="block-title"><span>Reports</span></div>', width="content")
        search = st.text_input(
            "Search",
            placeholder="Search accession number, pseudonym, study",
            label_visibility="collapsed",
            width=340,
            key="reports_search",
            persist_state="session",
        )
        shown = st.segmented_control(
            "Which",
            list(SHOWN),
            default="Not sent yet",
            required=True,
            label_visibility="collapsed",
            key="reports_shown",
        )
    chosen = st.session_state.get("reports_page", 1)
    with database.session() as session:
        page = sent_reports.reports_page(
            session, state.current_user(), chosen, PAGE_SIZE, search.strip(), SHOWN[shown or "All"]
        )
    if not page.rows:
        if search:
            page_parts.empty("Nothing matches", "Try a part of the accession number or the pseudonym.")
        else:
            page_parts.empty("Nothing here", "A report appears when a reader has decided about every image of a case.")
        return
    clicked = case_table.show(COLUMNS, [line(row) for row in page.rows], label="Reports", key="reports_table")
    page_parts.pager(page.total, PAGE_SIZE, "reports_page")
    if clicked.open is not None:
        detail(next(row for row in page.rows if row.delivery_id == clicked.open))


def line(row: ReportRow) -> Line:
    return Line(
        id=row.delivery_id,
        label=f"{row.pseudonym} to {destination(row.destination)}: {STATE[row.state]}",
        done=row.state in (DeliveryState.OVERTAKEN, DeliveryState.GIVEN_UP),
        cells={
            "study": {"text": row.pseudonym, "note": f"study {row.study_id}"},
            "accession": row.accession_number or "",
            "where": {"text": destination(row.destination), "note": _what(row)},
            "state": {"text": STATE[row.state], "tone": TONE.get(row.state, "")},
            "said": {"text": row.reason or row.receipt or "", "tone": "" if row.reason else "quiet"},
            "at": {"text": words.moment(row.at), "note": _next(row)},
        },
    )


def _what(row: ReportRow) -> str | None:
    if row.is_withdrawal:
        return "withdrawal"
    return f"version {row.version}" if row.version > 1 else None


def _next(row: ReportRow) -> str | None:
    is_next = row.state in (DeliveryState.WAITING, DeliveryState.FAILED)
    return f"next {words.moment(row.due_at)}" if is_next else None


@st.dialog("Report", width="medium")
def detail(row: ReportRow) -> None:
    with errors.shown():
        facts = {
            "Study": f"{row.pseudonym}, study {row.study_id}",
            "Accession number": row.accession_number or words.MISSING,
            "To": destination(row.destination),
            "What": f"{'Withdrawal' if row.is_withdrawal else 'Report'}, version {row.version}",
            "State": STATE[row.state],
            "Attempts": f"{row.attempts}",
            "Last": words.moment(row.at),
        }
        if row.reason:
            facts["Reason"] = row.reason
        if row.receipt:
            facts["Acknowledged by"] = row.receipt
        page_parts.facts(facts)
        if not row.is_latest:
            page_parts.caption("A later version of this report has been made.")
            return
        with st.container(horizontal=True):
            if st.button("Send again", type="primary", disabled=row.state is DeliveryState.OVERTAKEN):
                act(sent_reports.send_again, row)
            may_go = row.state in (DeliveryState.WAITING, DeliveryState.FAILED, DeliveryState.REFUSED)
            why = "It is not sent, because somebody has dealt with it by other means."
            if may_go and st.button("Let it go", help=why):
                act(sent_reports.give_up, row)


def act(service, row: ReportRow) -> None:
    with database.session() as session:
        service(session, state.current_user(), row.delivery_id)
    st.rerun()


show()
