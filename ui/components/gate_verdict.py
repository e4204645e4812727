"""What the gate decided about a candidate: the reasons, the figures of both models, and every case that got worse."""

from __future__ import annotations

from html import escape

import streamlit as st

from engine.findings.answers import Task
from engine.findings.summary import answer_words
from engine.promotion_gate import Figure, WorseCase
from engine.services.retrain import RunView
from ui import state, words
from ui.components import retrain_charts

CARDS = 6  # on one page of the gallery


def show(run: RunView) -> None:
    """Figures at the left, pictures at the right; both are seen before anyone signs."""
    if run.decision is None:
        return
    left, right = st.columns([1, 1], gap="large")
    with left:
        reasons(run)
        retrain_charts.forest([one for one in run.decision.figures if _is_plotted(one)])
        st.html('<span class="quiet">Dot and line: difference of the candidate to the model in use, with its interval.'
                " Left of zero it is better. Tick: the limit.</span>")  # fmt: skip
        with st.expander(f"All {len(run.decision.figures)} figures of both models"):
            st.html(table(run.decision.figures))
    with right:
        worse_cases(run)


def _is_plotted(figure: Figure) -> bool:
    """What decided it; of what is left unread only where that is too much."""
    if figure.rule not in ("better", "not worse"):
        return figure.passed is False
    return figure.measure != "unread" or figure.passed is False


def reasons(run: RunView) -> None:
    decision = run.decision
    verdict = "Let through" if decision.promote else "Held back"
    lines = "".join(f"<li>{escape(reason)}</li>" for reason in decision.reasons)
    tone = "" if decision.promote else "conflict"
    st.html(
        f'<div class="block-title"><span>The gate</span>'
        f"<span>{escape(run.candidate or 'candidate')} against {escape(run.model_in_use or '')}</span></div>"
        f'<div class="answer long">{verdict}</div><ul class="notice {tone} reasons">{lines}</ul>'
    )


def table(figures: list[Figure]) -> str:
    """Those that did not pass first."""
    ordered = sorted(figures, key=lambda one: (one.passed is not False, one.task, one.group, one.measure))
    rows = "".join(
        f"<tr><td>{words.TASK[Task(one.task)]}</td><td>{escape(one.group)}</td><td>{escape(one.measure)}</td>"
        f'<td class="number">{one.patients}</td><td class="number">{_value(one.in_use, one.unit)}</td>'
        f'<td class="number">{_value(one.candidate, one.unit)}</td>'
        f'<td class="number">{_change(one.low, one.unit)} to {_change(one.high, one.unit)}</td>'
        f"<td>{escape(one.rule)}</td>"
        f'<td class="{"refused" if one.passed is False else "quiet"}">{_passed(one)}</td></tr>'
        for one in ordered
    )
    heads = "".join(
        f'<th class="{kind}">{name}</th>'
        for name, kind in (
            ("Task", ""), ("Cases", ""), ("Measure", ""), ("Patients", "number"), ("In use", "number"),
            ("Candidate", "number"), ("Interval of the change", "number"), ("Asked", ""), ("", ""),
        )
    )  # fmt: skip
    return f'<table class="outcomes">{"<tr>" + heads + "</tr>"}{rows}</table>'


def worse_cases(run: RunView) -> None:
    cases = run.decision.worse_cases
    st.html(
        f'<div class="block-title"><span>Cases that got worse: {len(cases)}</span>'
        f"<span>truth, then both answers</span></div>"
    )
    if not cases:
        st.html('<div class="quiet">None of the compared cases is read worse than before.</div>')
        return
    pages = -(-len(cases) // CARDS)
    page = st.session_state.get(state.worse_page_key(), 1) if pages > 1 else 1
    shown = cases[(min(page, pages) - 1) * CARDS :][:CARDS]
    for start in range(0, len(shown), 2):
        for column, case in zip(st.columns(2, gap="small"), shown[start : start + 2], strict=False):
            with column:
                card(run, case)
    if pages > 1:
        st.pagination(pages, key=state.worse_page_key(), width=340)


def card(run: RunView, case: WorseCase) -> None:
    picture = run.pictures / case.picture if case.picture else None
    trained = " · trained on" if case.trained_on else ""
    film, answers = st.columns([1, 1.2], gap="small")
    with film:
        if picture is not None and picture.is_file():
            st.image(picture, width=140)
    with answers:
        st.html(
            f'<dl class="facts"><dt>{words.TASK[Task(case.task)]}</dt><dd class="quiet">{escape(case.group)}{trained}'
            f"</dd><dt>Truth</dt><dd>{escape(answer_words(case.truth))}</dd>"
            f"<dt>In use</dt><dd>{escape(_answer(case.in_use_answer))}</dd>"
            f"<dt>Candidate</dt><dd>{escape(_answer(case.candidate_answer))}</dd></dl>"
        )


def _answer(answer: dict | None) -> str:
    return answer_words(answer) if answer else "no read"


def _passed(figure: Figure) -> str:
    if figure.passed is None:
        return ""
    if figure.rule == "better":
        return "better" if figure.passed else "not shown"
    return "kept" if figure.passed else "not kept"


def _value(value: float, unit: str) -> str:
    return f"{value:.1f} mo" if unit == "months" else f"{value:.1%}"


def _change(value: float, unit: str) -> str:
    return f"{value:+.1f}" if unit == "months" else f"{value * 100:+.1f}"
