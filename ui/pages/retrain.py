"""Retraining, for the admin: what would be learnt from, one button, how it goes, and the signature at its end."""

from __future__ import annotations

from datetime import datetime
from html import escape

import streamlit as st

from db.models import RetrainState, RetrainStep
from db.types import utc_now
from engine.errors import Conflict
from engine.services import registry, retrain, training_set, worklist
from engine.services.accounts import Actor
from engine.services.reading import STOPPED
from engine.services.retrain import RunView
from engine.services.training_set import TrainingSetPreview
from ui import database, errors, state, words
from ui.components import case_table, gate_verdict, page_parts, retrain_charts
from ui.components.case_table import Column, Line

LOOK_EVERY = "2s"
STEP = {
    RetrainStep.SNAPSHOT: "Write the training set",
    RetrainStep.TRAIN: "Train",
    RetrainStep.MERGE: "Merge into a 4-bit model",
    RetrainStep.EVALUATE: "Compare with the model in use",
    RetrainStep.GATE: "Gate",
}
STATE = {
    RetrainState.QUEUED: "Waiting",
    RetrainState.RUNNING: "Running",
    RetrainState.AWAITING_SIGNATURE: "Awaits a signature",
    RetrainState.PROMOTED: "Promoted",
    RetrainState.HELD: "Held",
    RetrainState.FAILED: "Failed",
    RetrainState.CANCELLED: "Cancelled",
}
MARK = {"done": "●", "running": "◐", "ended here": "✕", "waiting": "○"}
COLUMNS = [
    Column("run", "Run", "7%"),
    Column("state", "State", "13%"),
    Column("candidate", "New model", "20%"),
    Column("message", "What came of it", "36%"),
    Column("by", "Started by", "11%"),
    Column("at", "Started", "13%", align="right"),
]


def user() -> Actor:
    return state.administrator()


@errors.shown()
def show() -> None:
    with database.session() as session:
        in_use = registry.model_in_use(session, user())
        chosen = state.chosen_run()
        now = retrain.run(session, user(), chosen) if chosen else retrain.current(session, user())
    page_parts.title("Retrain", f"On the decisions of your readers. In use: {in_use.name}")
    if now is not None and now.is_on:
        st.fragment(live, run_every=LOOK_EVERY)(now.run_id, now.state)
    elif now is not None and (now.state is RetrainState.AWAITING_SIGNATURE or chosen):
        finished(now)
    else:
        offer(now)
    history()


# ---------------------------------------------------------------- before


def offer(last: RunView | None) -> None:
    with database.session() as session:
        preview = training_set.preview(session, user())
        working = worker_is_there(session)
    if last is not None:
        outcome(last)
    if not preview.left_out and not any(one.corrected for one in preview.tasks):
        page_parts.empty(
            "No corrections yet",
            "A new model learns from the reads that your readers corrected. Correct cases on the review page; what "
            "would be learnt from them is shown here.",
        )
        return
    left, right = st.columns([1.9, 1], gap="large")
    with left:
        st.html('<div class="block-title"><span>What would be learnt from</span></div>')
        retrain_charts.labels(preview.tasks)
        st.html(counts(preview))
        left_out(preview)
    with right:
        button(preview, working)


def button(preview: TrainingSetPreview, working: bool) -> None:
    st.html('<div class="block-title"><span>A new model</span></div>')
    page_parts.facts(
        {
            "Takes about": f"{preview.estimate_minutes:.0f} minutes; reads go on meanwhile",
            "Not seen before": words.counted(preview.new_decisions, "decision"),
            "Replayed": f"{words.counted(sum(preview.replay.values()), 'case')} that the model knows, so that it keeps "
            "them",
            "Then": "compared with the model in use on children it never saw; put in use only with your signature",
        }
    )
    if not preview.enough:
        page_parts.notice(preview.why_not or "There is too little to learn from.")
    if not working:
        page_parts.notice(f"No worker is running, so a run would wait. Start it with: {page_parts.START_WORKER}")
    if st.button("Retrain", type="primary", disabled=not preview.enough, key="retrain_start", width="stretch"):
        start()


def start() -> None:
    try:
        with database.session() as session:
            retrain.start(session, user())
    except Conflict:  # somebody else was faster: what they started is shown
        pass
    state.choose_run(None)
    st.rerun()


def counts(preview: TrainingSetPreview) -> str:
    """A table: how many of each task go where, and how far readers agree."""
    agreement = {one.task: one for one in preview.agreement}
    heads = ("Task", "Corrected", "Confirmed", "Train", "Choose by", "Test, locked", "Replayed", "Readers agree", "")
    rows = ""
    for one in preview.tasks:
        two = agreement.get(one.task)
        agree = f"{two.agreeing} of {two.images}" if two else ""
        numbers = (one.corrected, one.confirmed, *(one.splits.get(split, 0) for split in ("train", "val", "test")))
        cells = "".join(f'<td class="number">{number}</td>' for number in (*numbers, preview.replay.get(one.task, 0)))
        why = "" if one.enough else "not taught"
        rows += (
            f'<tr><td>{words.TASK[one.task]}</td>{cells}<td class="number">{agree}</td>'
            f'<td class="quiet" title="{escape(one.why_not or "", quote=True)}">{why}</td></tr>'
        )
    kinds = [""] + ["number"] * 7 + [""]
    head = "".join(f'<th class="{kind}">{name}</th>' for name, kind in zip(heads, kinds, strict=True))
    sites: dict[str, int] = {}
    for one in preview.tasks:
        for site, count in one.by_site.items():
            sites[site] = sites.get(site, 0) + count
    by_site = " · ".join(f"{site} {count}" for site, count in sorted(sites.items()))
    return (
        f'<table class="outcomes"><tr>{head}</tr>{rows}</table>'
        f'<span class="quiet">By site: {escape(by_site or "none")}. Children are split, not films; '
        f"{preview.not_reviewed:,} films await a decision.</span>"
    )


def left_out(preview: TrainingSetPreview) -> None:
    if not preview.left_out:
        return
    reasons: dict[str, int] = {}
    for one in preview.left_out:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    with st.expander(f"{words.counted(len(preview.left_out), 'film')} left out, with the reason"):
        lines = "".join(
            f'<tr><td class="number">{count}</td><td>{escape(words.sentence(reason))}</td></tr>'
            for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])
        )
        st.html(f'<table class="outcomes">{lines}</table>')


def outcome(run: RunView) -> None:
    """Of the run before, in one line."""
    tone = "conflict" if run.state is RetrainState.FAILED else ""
    page_parts.notice(f"Run {run.run_id}, {STATE[run.state].lower()}: {run.message or ''}", tone)


def worker_is_there(session) -> bool:
    workers = worklist.overview(session, user()).workers
    return any(worker.alive and worker.detail != STOPPED for worker in workers)


# ---------------------------------------------------------------- while it runs


@errors.shown()
def live(run_id: int, drawn_as: RetrainState) -> None:
    """`drawn_as`: the run's state as the rest of the page shows it."""
    with database.session() as session:
        run = retrain.run(session, user(), run_id)
        working = worker_is_there(session)
    if run.state is not drawn_as:
        st.rerun()
    left, right = st.columns([1, 1.5], gap="large")
    with left:
        st.html(f'<div class="block-title"><span>Run {run.run_id}</span><span>{started(run)}</span></div>')
        st.html(f'<ul class="history">{"".join(map(step_line, run.steps))}</ul>')
        current = next((one for one in run.steps if one.state == "running"), None)
        share = f": {run.progress:.0%}" if run.progress else ""
        st.progress(run.progress, text=f"{STEP[current.step]}{share}" if current else "Waits for a worker")
        if not working:
            page_parts.notice(f"No worker is running, so nothing moves. Start it with: {page_parts.START_WORKER}")
        estimate = run.settings.get("estimate_minutes")
        elapsed = (utc_now() - run.started_at).total_seconds() / 60
        if estimate:
            expected = f"about {estimate:.0f} expected" if elapsed < estimate else "longer than expected"
            page_parts.caption(f"{elapsed:.0f} minutes so far, {expected}. Reads go on meanwhile.")
        if st.button("Cancel", key="retrain_cancel"):
            with database.session() as session:
                retrain.cancel(session, user(), run.run_id)
            st.rerun()
    with right:
        st.html('<div class="block-title"><span>Training</span></div>')
        retrain_charts.curve(run.curve)
        st.html('<div class="block-title"><span>Log</span></div>')
        st.code(run.log_tail or "Nothing yet.", language=None)


def started(run: RunView) -> str:
    return f"started by {escape(run.started_by)} at {words.moment(run.started_at)}"


def step_line(step) -> str:
    quiet = "" if step.state in ("running", "ended here") else "past"
    again = f' <span class="quiet">taken up again {step.starts - 1} times</span>' if step.starts > 1 else ""
    took = duration(step.seconds) if step.seconds is not None else ""
    return f'<li class="{quiet}"><span>{MARK[step.state]} {STEP[step.step]}{again}</span><time>{took}</time></li>'


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


# ---------------------------------------------------------------- at its end


def finished(run: RunView) -> None:
    """The verdict and, while it awaits one, the signature below it."""
    if run.state is not RetrainState.AWAITING_SIGNATURE:
        outcome(run)
        if st.button("Back to what would be learnt from", key="retrain_back"):
            state.choose_run(None)
            st.rerun()
    gate_verdict.show(run)
    if run.state is RetrainState.AWAITING_SIGNATURE:
        signature(run)
    downloads(run)


def signature(run: RunView) -> None:
    with st.form("retrain_signature", border=True):
        st.html('<div class="block-title"><span>Your signature puts it in use</span></div>')
        comment = st.text_area(
            "Why is the change right, or why not? It is kept in the change record with your name.",
            key="retrain_comment",
            height=80,
            max_chars=2000,
        )
        with st.container(horizontal=True):
            signed = st.form_submit_button(f"Sign and put {run.candidate} in use", type="primary")
            declined = st.form_submit_button("Decline")
    if signed or declined:
        act = retrain.sign if signed else retrain.decline
        with database.session() as session:
            act(session, user(), run.run_id, comment)
        state.choose_run(run.run_id)
        st.rerun()


def downloads(run: RunView) -> None:
    with st.container(horizontal=True):
        for path, kind in ((run.change_record_pdf, "PDF"), (run.change_record, "markdown")):
            if path is not None:
                st.download_button(
                    f"Change record as {kind}",
                    data=path.read_bytes(),
                    file_name=f"change-record-{run.run_id}{path.suffix}",
                    on_click="ignore",
                )


# ---------------------------------------------------------------- all runs


def history() -> None:
    with database.session() as session:
        runs = retrain.history(session, user())
    if not runs:
        return
    st.html('<div class="block-title section"><span>Runs</span><span>Open one for its figures and record</span></div>')
    lines = [
        Line(
            id=run.run_id,
            label=f"run {run.run_id}, {STATE[run.state]}",
            done=run.state in (RetrainState.FAILED, RetrainState.CANCELLED),
            cells={
                "run": str(run.run_id),
                "state": STATE[run.state],
                "candidate": run.candidate,
                "message": run.message,
                "by": run.started_by,
                "at": when(run.started_at),
            },
        )
        for run in runs
    ]
    clicked = case_table.show(COLUMNS, lines, label="Runs", key="runs", height="13rem")
    if clicked.open is not None:
        state.choose_run(clicked.open)
        st.rerun()


def when(at: datetime) -> str:
    return words.moment(at)


show()
