"""The review page: the film, the read, and the reader's decision, from the keyboard if they like.

The page loads a study once; the panel beside the film is a fragment, so that typing does not load it again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import streamlit as st
from sqlalchemy.orm import Session

from db.models import ReadState, RejectReason, StudyStatus, Verdict
from engine.errors import Conflict
from engine.findings.additions import FIELDS
from engine.findings.answers import Answer, Task
from engine.findings.summary import answer_words
from engine.services import blind_reading, claims, images, prior_films, review, worklist
from engine.services.child_context import ChildContext, child_context
from engine.services.claims import Claim
from engine.services.review import Decision, ImageView, StudyView
from engine.services.worklist import WorklistFilter
from ui import database, errors, state, words
from ui.components import (
    case_claim,
    case_header,
    child_panel,
    drafting,
    facts_form,
    finding_form,
    hand_over,
    hotkeys,
    key_queue,
    model_words,
    page_parts,
    read_panel,
    report_state,
    review_history,
    viewer,
)
from ui.components.finding_form import Entered
from ui.components.viewer.beside import films_beside
from ui.state import LastDecision, Sitting

KEYS = [
    ("Enter", "confirm, or save the correction, and go on"),
    ("C", "correct: into the first field"),
    ("X", "reject, then the number of the reason"),
    ("U", "undo the last decision"),
    ("Y", "take the read, where it was shown after your answer"),
    ("J", "next case"),
    ("K", "previous case"),
    ("L", "worklist"),
    ("E", "hand over: note, whose case it is"),
    ("?", "these keys"),
]
ADDITIONS = {name for fields in FIELDS.values() for name in fields}
FORM = ADDITIONS | {"quality", "no_burned_in_text", "regions", "landmarks"}  # the details that this page can say
STEPS = {"J": "next", "K": "previous", "L": "to_worklist", "E": "hand_over"}
POLL_EVERY = "2s"


@errors.shown()
def show() -> None:
    """The film goes to the browser ahead of all that stands around it."""
    key_queue.watch(key_queue.CASE_KEYS)
    study_id = state.selected_study()
    if study_id is None:
        study_id = take_next(None)
        if study_id is None:
            page_parts.title("Review")
            page_parts.empty(
                "No case is open", "Open one on the worklist. The first case to review opens here by itself."
            )
            return
        state.select_study(study_id)
    header = st.container(horizontal=True, vertical_alignment="center", wrap=False, key="header")
    with header:
        whose = st.container(horizontal=True, vertical_alignment="center", wrap=False, key="whose")
    film, panel = st.columns([1.98, 1], gap="small")
    with database.session() as session:
        user, in_list = state.current_user(), state.worklist_filter()
        study = review.load_study(session, user, study_id)
        held = case_claim.open_case(session, study)
        with whose:
            image = choose_image(study)
        next_id = worklist.next_study(session, user, in_list, study_id)
        with film:
            viewer.show(
                image,
                label=film_label(study, image),
                is_fundus=study.task is Task.ROP,
                beside=films_beside(study, image, prior_films.prior_films(session, user, image.image_id)),
                prefetch_urls=urls_to_fetch(session, study, image, next_id),
                keys=KEYS,
                user=user.username,
            )
        context = child_context(session, user, image.image_id)
        total = worklist.count(session, user, in_list)
    with whose:
        case_header.show(study, image)
    with header:
        step_buttons(next_id, total)
    with panel, st.container(key="panel", gap="xsmall"):
        if held is not None and held.is_mine:
            case_claim.keep(held)
        hand_over.notes(study.study_id)
        for warning in study.warnings:
            page_parts.notice(words.sentence(warning))
        model_words.offer(image)
        read_panel.show(study, image)
        if image.read_state is ReadState.BLOCKED and not image.missing_facts and image.decision is None:
            st.button("Read again", type="tertiary", on_click=read_again, args=(image.image_id,))
        if image.read is None and image.read_state is ReadState.QUEUED:
            st.fragment(wait_for_read, run_every=POLL_EVERY)(study)
        child_panel.show(context)
        decide(study, image, context, held)
        report_state.show(study.study_id)


def choose_image(study: StudyView) -> ImageView:
    """The image under review; a study with several offers them by side."""
    if len(study.images) == 1:
        return study.images[0]
    by_id = {image.image_id: image for image in study.images}
    undecided = next((image.image_id for image in study.images if image.decision is None), study.images[0].image_id)
    wanted = state.take_next_image() or st.session_state.get(state.image_key())
    st.session_state[state.image_key()] = wanted if wanted in by_id else undecided

    def label(image_id: int) -> str:
        image, number = by_id[image_id], list(by_id).index(image_id) + 1
        side = words.SIDE.get(image.laterality, "side not known")
        return f"{number} {side}{', decided' if image.decision else ''}"

    chosen = st.segmented_control(
        "Image", list(by_id), format_func=label, key=state.image_key(), required=True, label_visibility="collapsed"
    )
    return by_id[chosen]


def undecided_besides(study: StudyView, image: ImageView) -> list[ImageView]:
    return [other for other in study.images if other.decision is None and other.image_id != image.image_id]


def film_label(study: StudyView, image: ImageView) -> str:
    return f"{case_header.examination(study, image)}, {study.pseudonym}, {image.cols} by {image.rows} pixels"


# ---------------------------------------------------------------- going from case to case


def step_buttons(next_id: int | None, in_list: int) -> None:
    with st.container(
        horizontal=True, horizontal_alignment="right", vertical_alignment="center", wrap=False, key="steps"
    ):
        page_parts.caption(f"{in_list} in the list")
        hand_over.popover(state.selected_study())
        if st.button("Worklist `L`", key="to_worklist", type="tertiary"):
            leave(state.selected_study())
            st.switch_page(state.WORKLIST)
        st.button("Previous `K`", key="previous", type="tertiary", on_click=step, args=(True,))
        st.button("Next `J`", key="next", type="tertiary", disabled=next_id is None, on_click=step, args=(False,))


@errors.in_callback()
def step(backwards: bool) -> None:
    """Selecting ahead of the run, rather than opening within it, shows the case a run earlier."""
    leaving = state.selected_study()
    study_id = take_next(leaving, backwards=backwards)
    if study_id is not None:
        leave(leaving)
        state.select_study(study_id)


def take_next(study_id: int | None, backwards: bool = False) -> int | None:
    """The next case that nobody else has, now this reader's."""
    with database.session() as session:
        return claims.claim_next(session, state.current_user(), state.worklist_filter(), study_id, backwards=backwards)


def leave(study_id: int | None) -> None:
    """Others may have the case; what was typed is kept."""
    if study_id is not None:
        with database.session() as session:
            claims.release(session, state.current_user(), study_id)


def go_to(study_id: int | None) -> NoReturn:
    """Open a study; without one there is nothing left in the filter, and the worklist says so."""
    if study_id is None:
        st.switch_page(state.WORKLIST)
    state.select_study(study_id)
    st.rerun(scope="app")


def urls_to_fetch(session: Session, study: StudyView, image: ImageView, next_id: int | None) -> list[str]:
    """Of the films that come next: the examination's other images, then the first one of the next case."""
    urls = [other.pixels_url for other in undecided_besides(study, image)]
    following = images.study_image_ids(session, state.current_user(), next_id) if next_id is not None else []
    return urls + [f"/api/radiology/studies/{next_id}/pixels?image={image_id}" for image_id in following[:1]]


@errors.shown()
def wait_for_read(study: StudyView) -> None:
    """Looks whether the read has come, and says whom it waits for."""
    with database.session() as session:
        overview = worklist.overview(session, state.current_user())
        row = worklist.worklist_page(session, state.current_user(), WorklistFilter(search=study.pseudonym)).rows
    if any(one.study_id == study.study_id and one.status is not StudyStatus.AWAITING_READ for one in row):
        st.rerun(scope="app")
    page_parts.waiting_for_reads(overview)


@errors.in_callback()
def read_again(image_id: int) -> None:
    with database.session() as session:
        review.request_read(session, state.current_user(), image_id)


# ---------------------------------------------------------------- deciding


@st.fragment
@errors.shown()
def decide(study: StudyView, image: ImageView, context: ChildContext, held: Claim | None) -> None:
    """The REVIEW block: the form, the buttons, and what was decided before.

    Buttons that decide carry the image in their key: a click that arrives after the case has changed meets none."""
    sitting = state.sitting(image.image_id, image.seen_review_id)
    if image.withheld:
        page_parts.notice(f"{words.sentence(image.withheld)}.")
        return
    if held is not None and not held.is_mine:
        sitting.fields = None  # they are drawn anew when the case is this reader's again
        case_claim.another_has_it(held, image, lambda: go_to(take_next(study.study_id)))
        return
    child_panel.show_title(study, image)
    drafting.put_back(image, sitting)
    if sitting.conflict:
        review_history.conflict(sitting.conflict, image)
    facts_form.show(study, image)
    if sitting.rejecting:
        reject_form(study, image, sitting)
    else:
        answer_form(study, image, context, sitting)
    review_history.show(image)


def answer_form(study: StudyView, image: ImageView, context: ChildContext, sitting: Sitting) -> None:
    hotkeys.bind(
        press={"Enter": "confirm_*", "X": "reject", "U": "undo", "Y": "take_read"} | STEPS,
        focus={"C": "answer"},
        doors={"correct": "answer"},
        submit_from="decision_fields",
    )
    with st.container(key="decision_fields", gap="xsmall"):
        entered = finding_form.show(study.task, image) if study.task else Entered(None, {})
        child_panel.show_meaning(context, study, image, entered)
        draw_remarks(study, image)
    drafting.keep(image, sitting)
    primary = what_enter_does(image, entered, *remarks(image, entered))
    with st.container(key="primary"):
        st.button(
            f"{primary.label} `Enter`",
            key=f"confirm_{image.image_id}",
            type="primary",
            width="stretch",
            disabled=entered.answer is None or bool(image.missing_facts),
            on_click=save,
            args=(study, image, sitting),
        )
    if may_take_read(image, entered):
        st.button(
            f"Take the read, {answer_words(image.read.answer)} `Y`",
            key="take_read",
            width="stretch",
            on_click=finding_form.fill,
            args=(image.image_id, image.read.answer),
        )
    with st.container(horizontal=True, gap="xsmall", wrap=False, key="other_decisions"):
        st.button("Correct `C`", key="correct", width="stretch", disabled=study.task is None)
        st.button("Reject `X`", key="reject", width="stretch", on_click=sitting.reject)
        if st.button("Undo `U`", key="undo", width="stretch", disabled=not can_undo(image)):
            undo(study, image)


@errors.in_callback()
def save(study: StudyView, image: ImageView, sitting: Sitting) -> None:
    """What the primary button says, of the form as it stands now. A callback: ahead of the run that would draw the
    form of a decided case once more."""
    entered = finding_form.entered(study.task, image.image_id)
    comment, details = remarks(image, entered)
    primary = what_enter_does(image, entered, comment, details)
    if entered.answer is None:
        return  # emptied with the same key; the form says what is missing
    if primary.is_blind:
        commit_blind(image, sitting, entered.answer, comment, details)
    if primary.verdict is None:
        go_on(study, image)
    decision = Decision(
        verdict=primary.verdict,
        answer=entered.answer if primary.verdict is Verdict.CORRECTED else None,
        comment=comment,
        details=details,
        prediction_id=image.read.prediction_id if image.read else None,
    )
    record(study, image, sitting, decision)


@dataclass(frozen=True)
class Primary:
    """The primary button: its words, and the verdict it records; None when what is decided already stands. `is_blind`:
    it keeps the answer and shows the read."""

    label: str
    verdict: Verdict | None
    is_blind: bool = False


def what_enter_does(image: ImageView, entered: Entered, comment: str | None, details: dict) -> Primary:
    answer, decision = entered.answer, image.decision
    read_answer = image.read.answer if image.read else None
    if entered.problem:
        return Primary("This cannot be saved yet", None)
    if answer is None:
        missing = " and ".join(entered.missing)
        return Primary(f"Still to say: {missing}" if entered.missing else "Give an answer", None)
    if image.read_hidden:
        return Primary(f"Answer {answer_words(answer)} and see the read", None, is_blind=True)
    verdict = Verdict.CONFIRMED if answer == read_answer else Verdict.CORRECTED
    if decision is not None and decision.answer == answer:
        before = {name: value for name, value in decision.details.items() if name in FORM}
        if (comment, details) == (own_comment(image), before):
            return Primary("Keep and next", None)
        return Primary("Save what was added and next", verdict)
    if verdict is Verdict.CONFIRMED:
        return Primary("Confirm and next", verdict)
    verb = "Save" if read_answer is None else "Correct to"
    return Primary(f"{verb} {answer_words(answer)} and next", verdict)


def may_take_read(image: ImageView, entered: Entered) -> bool:
    """The reader answered blind, and the read says otherwise."""
    read_answer = image.read.answer if image.read else None
    return image.blind_answer is not None and read_answer is not None and read_answer != entered.answer


def commit_blind(image: ImageView, sitting: Sitting, answer: Answer, comment: str | None, details: dict) -> NoReturn:
    """Keep the answer given before the read is shown, with what was said and marked besides, and show the read."""
    with database.session() as session:
        blind_reading.give_blind_answer(
            session,
            state.current_user(),
            image.image_id,
            answer,
            sitting.seconds(),
            comment=comment,
            details=details,
        )
    st.rerun(scope="app")


def own_comment(image: ImageView) -> str | None:
    """What this reader said when they decided, or before they saw the read; another's comment is not theirs to
    repeat."""
    if image.decision is None:
        return image.blind_comment
    return image.decision.comment if image.decision.is_mine else None


def draw_remarks(study: StudyView, image: ImageView) -> None:
    """A comment, and what the reader looked for besides the answer. Opens with what they said before."""
    before = image.decision.details if image.decision else image.blind_details
    for name, value in (
        ("comment", own_comment(image) or ""),
        ("quality", before.get("quality")),
        ("clean", before.get("no_burned_in_text") is True),
    ):
        st.session_state.setdefault(state.field_key(name, image.image_id), value)
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="bottom", wrap=False, key="remarks"):
        st.text_input(
            "Comment",
            key=state.field_key("comment", image.image_id),
            placeholder="Comment",
            label_visibility="collapsed",
            max_chars=2000,
            persist_state=finding_form.KEPT,
        )
        with st.popover("More"):
            if study.task:
                finding_form.show_more(study.task, image)
            st.segmented_control(
                "Film quality",
                ["good", "limited"],
                format_func=words.sentence,
                key=state.field_key("quality", image.image_id),
                persist_state=finding_form.KEPT,
            )
            st.checkbox(
                "No name, number or date is burned into the film",
                key=state.field_key("clean", image.image_id),
                persist_state=finding_form.KEPT,
                help="A film whose file does not say so is exported only when a reader has looked.",
            )


def remarks(image: ImageView, entered: Entered) -> tuple[str | None, dict]:
    """The comment, and the details of a decision: what stands in the form besides the answer, and on the film."""
    comment, quality, clean = (
        st.session_state.get(state.field_key(name, image.image_id)) for name in ("comment", "quality", "clean")
    )
    details = {"quality": quality} if quality else {}
    if clean:
        details["no_burned_in_text"] = True
    return (comment or "").strip() or None, details | viewer.marks_of(image) | entered.additions


def reject_form(study: StudyView, image: ImageView, sitting: Sitting) -> None:
    """Why the image cannot be answered: one key, one decision."""
    numbered = {str(number): f"reject_{reason.value}_*" for number, reason in enumerate(RejectReason, start=1)}
    hotkeys.bind(press={"Escape": "cancel_reject"} | numbered | STEPS)
    comment = st.text_input(
        "Comment (needed for Other)",
        key=state.field_key("comment", image.image_id),
        max_chars=2000,
        persist_state=finding_form.KEPT,
    ).strip()
    drafting.keep(image, sitting)
    with st.container(key="reasons"):
        columns = st.columns(2, gap="xsmall")
    for number, reason in enumerate(RejectReason, start=1):
        columns[(number - 1) % 2].button(
            f"{words.REJECT_REASON[reason]} `{number}`",
            key=f"reject_{reason.value}_{image.image_id}",
            width="stretch",
            disabled=reason is RejectReason.OTHER and not comment,
            on_click=reject,
            args=(study, image, sitting, reason),
        )
    st.button(
        "Do not reject `Esc`", key="cancel_reject", type="tertiary", width="stretch", on_click=sitting.do_not_reject
    )


@errors.in_callback()
def reject(study: StudyView, image: ImageView, sitting: Sitting, reason: RejectReason) -> None:
    comment, _ = remarks(image, Entered(None, {}))
    prediction_id = image.read.prediction_id if image.read else None
    record(study, image, sitting, Decision(Verdict.REJECTED, None, reason, comment, prediction_id=prediction_id))


def record(study: StudyView, image: ImageView, sitting: Sitting, decision: Decision) -> NoReturn:
    """Store the decision and go on. When somebody else was first, show what they decided and keep what was typed."""
    decision = replace(decision, seen_review_id=sitting.seen_review_id, seconds=sitting.seconds())
    try:
        with database.session() as session:
            review_id = review.record_review(session, state.current_user(), image.image_id, decision)
    except Conflict as conflict:
        sitting.conflict = str(conflict)
        sitting.seen_review_id = latest_review_id(study.study_id, image.image_id)
        st.rerun(scope="app")
    said = answer_words(decision.answer, decision.details) if decision.answer else ""
    state.remember_decision(
        LastDecision(study.study_id, image.image_id, review_id, f"{words.VERDICT[decision.verdict]} {said}".strip())
    )
    state.forget_fields(image.image_id)
    go_on(study, image)


def go_on(study: StudyView, image: ImageView) -> NoReturn:
    """To the study's next undecided image, else to the next case that nobody else has."""
    undecided = undecided_besides(study, image)
    if not undecided:
        go_to(take_next(study.study_id))
    state.end_sitting()
    state.choose_image_next(undecided[0].image_id)
    st.rerun(scope="app")


def latest_review_id(study_id: int, image_id: int) -> int | None:
    with database.session() as session:
        study = review.load_study(session, state.current_user(), study_id)
    return next(image.seen_review_id for image in study.images if image.image_id == image_id)


def can_undo(image: ImageView) -> bool:
    return (image.decision is not None and image.decision.is_mine) or state.last_decision() is not None


def undo(study: StudyView, image: ImageView) -> None:
    """Take back one's decision about this image, else the last one of this session, and open its case again."""
    if image.decision is not None and image.decision.is_mine:
        study_id, image_id, review_id = study.study_id, image.image_id, image.decision.review_id
    else:
        last = state.last_decision()
        study_id, image_id, review_id = last.study_id, last.image_id, last.review_id
    with database.session() as session:
        review.undo_review(session, state.current_user(), image_id, review_id)
    state.forget_decision()
    state.forget_fields(image.image_id)
    go_to(study_id)


show()
