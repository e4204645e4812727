"""Which model reads here and since when, every other one with where it came from, and the way back."""

from __future__ import annotations

from html import escape

import streamlit as st

from db.models import DeploymentKind, ModelState, RetrainState
from engine.services import lineage, registry, shadow, worklist
from engine.services.accounts import Actor
from engine.services.lineage import DeploymentRow, ModelRow
from engine.services.reading import READY, STOPPED
from engine.services.registry import InUse
from engine.services.worklist import WorkerState
from ui import database, errors, state, words
from ui.components import case_table, disagreements, model_lineage, page_parts
from ui.components.case_table import Column, Line
from ui.components.model_lineage import fingerprint, short_name

FOLLOW_EVERY = "2s"  # while a worker changes its model
STATE = {
    ModelState.IN_USE: "In use",
    ModelState.SHADOW: "Reads alongside",
    ModelState.CANDIDATE: "Candidate",
    ModelState.RETIRED: "Was in use",
}
TONE = {ModelState.IN_USE: "accent", ModelState.SHADOW: "strong"}
RUN = {
    RetrainState.AWAITING_SIGNATURE: "awaits a signature",
    RetrainState.HELD: "held back",
    RetrainState.FAILED: "its retraining failed",
    RetrainState.CANCELLED: "its retraining was cancelled",
}
COLUMNS = [
    Column("model", "Model", "28%"),
    Column("state", "State", "20%"),
    Column("learned", "Learned from", "22%"),
    Column("reads", "Reads", "8%", align="right"),
    Column("made", "Here since", "22%", align="right"),
]


def user() -> Actor:
    return state.administrator()


@errors.shown()
def show() -> None:
    page_parts.title("Models", "Which model reads here, where each came from, and the way back")
    with database.session() as session:
        rows = lineage.models(session, user())
        history = lineage.deployments(session, user())
        workers = worklist.overview(session, user()).workers
        now = registry.model_in_use(session, user())
    left, right = st.columns([1.35, 1], gap="large")
    with left:
        settled = all(one.model_version == now.name for one in reading(workers))
        st.fragment(in_use, run_every=None if settled else FOLLOW_EVERY)()
    with right:
        way_back(now, history)
    versions(rows, history)
    alongside(rows)


# ---------------------------------------------------------------- the model in use


def reading(workers: list[WorkerState]) -> list[WorkerState]:
    return [one for one in workers if one.alive and one.detail != STOPPED]


@errors.shown()
def in_use() -> None:
    with database.session() as session:
        now = registry.model_in_use(session, user())
        rows = lineage.models(session, user())
        workers = reading(worklist.overview(session, user()).workers)
    row = next((one for one in rows if one.model_version_id == now.model_version_id), None)
    caution = f"phantom model · {words.NOT_FOR_DIAGNOSIS}" if now.is_phantom else words.NOT_FOR_DIAGNOSIS
    st.html(f'<div class="block-title"><span>In use</span><span>{caution}</span></div>' + _named(now.name))
    with_it = [one.name for one in workers if one.model_version == now.name]
    page_parts.facts(
        {
            "Since": since(now),
            "Learned from": learned_from(row) or ("synthetic films, as shipped" if now.is_phantom else "as delivered"),
            "Reads so far": f"{row.reads:,}" if row else "0",
            "Loaded by": ", ".join(with_it) or "no worker",
        }
    )
    if not workers:
        page_parts.notice(f"No worker is running, so nothing is read. Start one with: {page_parts.START_WORKER}")
    for one in workers:
        other = one.model_version not in (now.name, None)
        if one.detail and one.detail != READY:
            page_parts.notice(f"{one.name}: {one.detail}", "conflict" if other else "")
        elif other:
            page_parts.notice(f"{one.name} still reads with {one.model_version}, and changes within seconds.")


def _named(name: str) -> str:
    return f'<div class="answer long">{escape(short_name(name))}<small>{escape(fingerprint(name))}</small></div>'


def since(now: InUse) -> str:
    if now.since is None:
        return "the first start of a worker"
    if now.kind is None:
        return f"{words.moment(now.since)}, as this workstation is configured"
    how = "promoted" if now.kind is DeploymentKind.PROMOTION else "brought back"
    return f"{words.moment(now.since)}, {how} by {now.by}"


def learned_from(row: ModelRow | None) -> str:
    if row is None or row.data_set is None:
        return ""
    return f"{words.counted(row.data_set.reviews, 'decision')} of readers (data set {row.data_set.sha256[:8]})"


# ---------------------------------------------------------------- the way back


def way_back(now: InUse, history: list[DeploymentRow]) -> None:
    st.html('<div class="block-title"><span>Way back</span></div>')
    if now.returns_to is None:
        page_parts.caption(
            "No other model was in use before this one."
            if history
            else "When another model is put in use, this one can be brought back here with one click."
        )
    else:
        st.html(f"Before this, <strong>{escape(short_name(now.returns_to))}</strong> read here.")
        if st.button(f"Roll back to {short_name(now.returns_to)}", key="roll_back"):
            confirm_rollback(now)
    if history:
        with st.expander(f"History ({len(history)})"):
            st.html(f'<ul class="history">{"".join(map(_history_line, history))}</ul>')


def _history_line(one: DeploymentRow) -> str:
    verb = "promoted" if one.kind is DeploymentKind.PROMOTION else "brought back"
    comment = f" · “{one.comment}”" if one.comment else ""
    text = f"{short_name(one.name)} {verb} by {one.by}{comment}"
    return f"<li><span>{escape(text)}</span><time>{escape(words.moment(one.at))}</time></li>"


@st.dialog("Roll back", width="medium")
def confirm_rollback(now: InUse) -> None:
    with errors.shown():
        st.html(
            f"<p><strong>{escape(now.returns_to or '')}</strong> reads again, in place of "
            f"<strong>{escape(now.name)}</strong>.</p><ul>"
            "<li>The next film is read by it, within seconds; reads under way end as they began.</li>"
            "<li>Reads and decisions made so far stay as they are, each with the model that made it.</li>"
            "<li>Films that were read are not read again.</li>"
            "<li>The present model is kept, and can be put back in use.</li></ul>"
        )
        comment = st.text_input("Why? It is kept in the history.", max_chars=500, key="rollback_comment")
        if st.button("Roll back now", type="primary", key="rollback_now"):
            roll_back(now, comment)
            st.rerun()


def roll_back(now: InUse, comment: str) -> None:
    with database.session() as session:
        registry.roll_back(session, user(), comment=comment.strip() or None, seen_deployment_id=now.deployment_id)


# ---------------------------------------------------------------- all models


def versions(rows: list[ModelRow], history: list[DeploymentRow]) -> None:
    st.html(
        '<div class="block-title section"><span>All models</span><span>Open one to see where it came from</span></div>'
    )
    if not rows:
        page_parts.empty(
            "No model has read here yet",
            "The configured model appears once a worker has loaded it; retraining on your readers' corrections adds "
            "others.",
        )
        return
    clicked = case_table.show(COLUMNS, [line(row) for row in rows], label="Models", key="models_table", height="22rem")
    if len(rows) == 1:
        page_parts.caption("Retraining on your readers' corrections adds candidates to this list.")
        st.page_link("pages/retrain.py", label="Go to Retrain")
    if clicked.open is not None:
        detail(next(row for row in rows if row.model_version_id == clicked.open), history)


def line(row: ModelRow) -> Line:
    note = RUN.get(row.run_state) if row.state is ModelState.CANDIDATE else None
    return Line(
        id=row.model_version_id,
        label=f"{row.name}, {STATE[row.state]}",
        done=row.state is ModelState.RETIRED,
        cells={
            "model": {"text": short_name(row.name), "note": fingerprint(row.name)},
            "state": {"text": STATE[row.state], "tone": TONE.get(row.state, ""), "note": note},
            "learned": learned_from(row) or {"text": "synthetic films" if row.is_phantom else "as delivered"},
            "reads": f"{row.reads:,}",
            "made": words.moment(row.created_at),
        },
    )


@st.dialog("Where this model came from", width="large")
def detail(row: ModelRow, history: list[DeploymentRow]) -> None:
    with errors.shown():
        st.html(f'<div class="block-title"><span>{STATE[row.state]}</span></div>' + _named(row.name))
        model_lineage.show(row, history)
        with st.empty().container():
            actions(row)


def actions(row: ModelRow) -> None:
    """What can be done with it now; the rest is said."""
    if row.is_configured or row.state is ModelState.IN_USE:
        return
    if row.run_state is RetrainState.AWAITING_SIGNATURE:
        page_parts.notice("It was let through and awaits a signature, which puts it in use.")
        st.page_link("pages/retrain.py", label="Go to Retrain")
    with st.container(horizontal=True, vertical_alignment="center"):
        if row.state is ModelState.SHADOW:
            if st.button("Stop reading alongside", key="shadow_stop"):
                stop_alongside(row.model_version_id)
                st.rerun()
        elif st.button("Let it read alongside", key="shadow_start"):
            start_alongside(row.model_version_id)
            st.rerun()
        if row.was_in_use and st.button("Put back in use", key="promote_again"):
            put_back(row.model_version_id)
            st.rerun()
    page_parts.caption(
        "A model that reads alongside reads the same films when nothing else waits. Readers never see what it says; "
        "this page shows where it differs."
    )


def start_alongside(version_id: int) -> None:
    with database.session() as session:
        shadow.start(session, user(), version_id)


def stop_alongside(version_id: int) -> None:
    with database.session() as session:
        shadow.stop(session, user(), version_id)


def put_back(version_id: int) -> None:
    with database.session() as session:
        registry.promote(session, user(), version_id)


# ---------------------------------------------------------------- the shadow


def alongside(rows: list[ModelRow]) -> None:
    row = next((one for one in rows if one.state is ModelState.SHADOW), None)
    if row is not None:
        st.fragment(_alongside, run_every="10s")(row)


@errors.shown()
def _alongside(row: ModelRow) -> None:
    with database.session() as session:
        report = shadow.report(session, user(), row.model_version_id)
    st.html(
        f'<div class="block-title section"><span>Reads alongside</span><span>unseen by readers</span></div>'
        f'<div class="answer long">{escape(short_name(row.name))}<small>{_progress(report)}</small></div>'
    )
    if st.button("Stop reading alongside", key="shadow_stop_here"):
        stop_alongside(row.model_version_id)
        st.rerun(scope="app")
    if not report.compared:
        page_parts.caption("It starts with the latest reads as soon as no film waits for its own read.")
        return
    disagreements.summary(report)
    if report.disagreements:
        disagreements.pictures(report.disagreements, user())
    else:
        page_parts.caption("Both say the same on every film so far.")


def _progress(report: shadow.ShadowReport) -> str:
    since = f"since {words.moment(report.since)}, " if report.since else ""
    left = f", {report.still_to_read:,} to go" if report.still_to_read else ""
    return escape(f"{since}{words.counted(report.compared, 'film')} compared{left}")


show()
