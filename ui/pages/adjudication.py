"""Where two readers differ: the film, both reads side by side without names, and the adjudicator's ruling."""

from __future__ import annotations

from dataclasses import replace
from html import escape

import streamlit as st

from db.models import RejectReason
from engine.findings.answers import Task
from engine.findings.summary import answer_words
from engine.services import adjudication
from engine.services.adjudication import AnonymousRead, Dispute, DisputedCase, Ruling
from engine.services.review import ImageView
from ui import database, errors, state, words
from ui.components import case_header, finding_form, hotkeys, page_parts, read_panel, viewer

KEYS = [
    ("1", "follow read A"),
    ("2", "follow read B"),
    ("C", "into the first field"),
    ("Enter", "settle with the answer in the form"),
]
NAMES = ("A", "B")


@errors.shown()
def show() -> None:
    with database.session() as session:
        waiting = adjudication.disputes(session, state.current_user())
    if not waiting:
        page_parts.title("Adjudication")
        page_parts.empty(
            "No disagreement awaits you",
            "Where a blind second reader differs from the first, the case appears here with both reads.",
        )
        return
    dispute = choose(waiting)
    with database.session() as session:
        case = adjudication.load(session, state.current_user(), dispute.case_id)
    image = next(one for one in case.study.images if one.image_id == dispute.image_id)
    case_header.show(case.study, image)
    film, panel = st.columns([1.98, 1], gap="small")
    with film:
        viewer.show(
            image,
            label=f"{case_header.examination(case.study, image)}, {dispute.pseudonym}",
            is_fundus=dispute.task is Task.ROP,
            keys=KEYS,
            user=state.current_user().username,
            height="calc(100dvh - 12rem)",
        )
    with panel, st.container(key="panel", gap="small"):
        both_reads(case)
        with st.expander("What the model says"):
            read_panel.show(case.study, image)
        rule(case, image)


def choose(waiting: list[Dispute]) -> Dispute:
    """The longest waiting first; another one on demand."""
    by_id = {dispute.case_id: dispute for dispute in waiting}
    key = state.dispute_key()
    if st.session_state.get(key) not in by_id:
        st.session_state[key] = waiting[0].case_id
    with st.container(horizontal=True, vertical_alignment="center"):
        page_parts.title("Adjudication", f"{words.counted(len(waiting), 'case')} on which two readers differ")
        st.space("stretch")
        chosen = st.selectbox(
            "Case",
            list(by_id),
            format_func=lambda id: _label(by_id[id]),
            key=key,
            width=340,
            label_visibility="collapsed",
        )
    return by_id[chosen]


def _label(dispute: Dispute) -> str:
    side = f", {words.SIDE[dispute.laterality]}" if dispute.laterality else ""
    return f"{words.BODY_PART[dispute.task]}{side} · {dispute.pseudonym} · since {words.moment(dispute.since)}"


def both_reads(case: DisputedCase) -> None:
    apart = f"{case.months_apart} months apart" if case.months_apart is not None else ""
    st.html(f'<div class="block-title"><span>Two readers, names hidden</span><span>{apart}</span></div>')
    for name, column, read in zip(NAMES, st.columns(2, gap="small"), case.reads, strict=True):
        with column:
            st.html(_card(name, read))


def _card(name: str, read: AnonymousRead) -> str:
    if read.answer is None:
        said, size = words.REJECT_REASON[read.reject_reason], "long"
        beside = "<small>rejected</small>"
    else:
        months = read.answer.get("bone_age_months")
        said, size = words.sentence(read.words), "long"
        beside = f"<small>{months} months</small>" if months is not None else ""
    comment = f'<p class="quiet" tabindex="0">“{escape(read.comment)}”</p>' if read.comment else ""
    return (
        f'<div class="read-card"><div class="block-title"><span>Read {name}</span></div>'
        f'<div class="answer {size}">{escape(said)}{beside}</div>{comment}</div>'
    )


@st.fragment
@errors.shown()
def rule(case: DisputedCase, image: ImageView) -> None:
    """The form opens empty: nobody's answer is the default."""
    image_id, task = image.image_id, case.dispute.task
    sitting = state.sitting(image_id, None)
    hotkeys.bind(press={"1": "follow_a", "2": "follow_b", "Enter": "confirm_*"}, focus={"C": "answer"})
    st.html('<div class="block-title"><span>Your ruling</span></div>')
    with st.container(horizontal=True, gap="xsmall", wrap=False, key="follow"):
        for number, (name, read) in enumerate(zip(NAMES, case.reads, strict=True), start=1):
            st.button(
                f"Follow {name} `{number}`",
                key=f"follow_{name.lower()}",
                width="stretch",
                disabled=read.answer is None,
                on_click=finding_form.fill,
                args=(image_id, read.answer),
            )
    with st.container(key="decision_fields", gap="xsmall"):
        entered = finding_form.show(task, replace(image, read=None, decision=None, blind_answer=None))
        comment = st.text_input(
            "Comment", key=state.field_key("comment", image_id), placeholder="Why, for the record", max_chars=2000
        ).strip()
    with st.container(key="primary"):
        label = f"Settle: {answer_words(entered.answer)}" if entered.answer else "Give an answer, or follow a read"
        settled = st.button(
            f"{label} `Enter`",
            key=f"confirm_{image_id}",
            type="primary",
            width="stretch",
            disabled=entered.answer is None,
        )
    ruling = Ruling(entered.answer, comment=comment or None, seconds=sitting.seconds()) if settled else None
    with st.popover("Reject the image", width="stretch"):
        for reason in RejectReason:
            if st.button(
                words.REJECT_REASON[reason],
                key=f"reject_{reason.value}_{image_id}",
                width="stretch",
                disabled=reason is RejectReason.OTHER and not comment,
            ):
                ruling = Ruling(None, reason, comment or None, sitting.seconds())
    if ruling is not None:
        with database.session() as session:
            adjudication.settle(session, state.current_user(), case.dispute.case_id, ruling)
        state.forget_fields(image_id)
        state.end_sitting()
        st.rerun(scope="app")


show()
