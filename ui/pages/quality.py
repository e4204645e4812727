"""How reading is checked: how much of it, with which gold cases, and how readers agree. For admins."""

from __future__ import annotations

from html import escape

import streamlit as st

from engine.errors import PediScreenError
from engine.findings.answers import Task
from engine.findings.bone_age import TWO_READINGS_DIFFER_MONTHS
from engine.findings.summary import answer_words
from engine.radiology_metrics import Interval
from engine.services import gold_cases, quality_rules, reader_quality
from engine.services.accounts import Actor
from engine.services.gold_cases import Candidate, Gold
from engine.services.quality_rules import Rule
from engine.services.reader_quality import ReaderQuality
from ui import database, errors, state, words
from ui.components import page_parts

FIELD_WORDS = {"zone": "zone", "stage": "stage", "plus_disease": "plus", "fracture": "class"}
SHOWN = 12  # gold cases and candidates


def user() -> Actor:
    return state.administrator()


@errors.shown()
def show() -> None:
    page_parts.title("Quality", "How much of the reading is checked, and what the checks say")
    with database.session() as session:
        rules = quality_rules.rules(session, user())
        qualities = reader_quality.reader_qualities(session, user())
        gold = gold_cases.gold_cases(session, user())
        candidates = gold_cases.candidates(session, user(), SHOWN + 1)
    rules_form(rules)
    with st.container(key="quality-lists"):
        readers(qualities)
        gold_set(gold, candidates)


# ---------------------------------------------------------------- how much is checked


def rules_form(rules: list[Rule]) -> None:
    st.html('<div class="block-title section"><span>What is checked</span></div>')
    with st.form("quality_rules", border=False):
        for column, rule in zip(st.columns(len(rules), gap="large"), rules, strict=True):
            with column:
                _rule_fields(rule)
        if st.form_submit_button("Save"):
            save(rules)
    page_parts.caption(
        "Blind first: the reader answers before the read is shown; both answers are kept. Second reads and gold cases "
        "look like any other case to their reader. Readers differ about a bone age when they are more than "
        f"{TWO_READINGS_DIFFER_MONTHS} months apart, about ROP and fractures when any label is another one."
    )


def _rule_fields(rule: Rule) -> None:
    name = words.TASK[rule.task]
    st.html(f"<strong>{name}</strong>")
    st.checkbox("Blind first", value=rule.blind_first, key=_key("blind", rule.task))
    st.number_input(
        "Second reads, % of studies", 0, 100, round(rule.second_read_share * 100), step=5, key=_key("share", rule.task)
    )
    st.number_input(
        "One gold case in so many decisions (0: none)", 0, 1000, rule.gold_every, step=5, key=_key("gold", rule.task)
    )


def _key(name: str, task: Task) -> str:
    return f"quality_{name}_{task.value}"


def save(rules: list[Rule]) -> None:
    with database.session() as session:
        for rule in rules:
            new = Rule(
                rule.task,
                st.session_state[_key("blind", rule.task)],
                st.session_state[_key("share", rule.task)] / 100,
                st.session_state[_key("gold", rule.task)],
            )
            if (new.blind_first, new.second_read_share, new.gold_every) != (
                rule.blind_first,
                rule.second_read_share,
                rule.gold_every,
            ):
                quality_rules.set_rule(session, user(), new)
    st.rerun()


# ---------------------------------------------------------------- readers


def readers(qualities: list[ReaderQuality]) -> None:
    st.html('<div class="block-title section"><span>Readers</span></div>')
    if not qualities:
        page_parts.empty(
            "No reader can be compared yet",
            "Each reader appears here with their first timed decision. Set a share of second reads above: from 10 "
            "images read twice, agreement, kappa or ICC and the differences follow.",
        )
        return
    head = (
        '<tr><th>Reader</th><th>Task</th><th class="number">Read twice</th><th class="number">Agree</th>'
        '<th>Kappa or ICC</th><th>Difference</th><th class="number">Gold cases</th><th class="number">Right</th>'
        '<th class="number">Median time</th></tr>'
    )
    st.html(f'<table class="outcomes">{head}{"".join(_row(one) for one in qualities)}</table>')
    page_parts.caption(
        "Read twice: by this reader and another one, neither knowing of the other; in brackets 95 % intervals, the "
        "images of one child counted as one. Kappa of zone, stage and plus is weighted quadratically, ICC is ICC(A,1) "
        "of absolute agreement. Difference: this reader minus the other one, with the limits of agreement. Right: gold "
        "cases answered as they should be. Time: of the latest 500 decisions."
    )


def _row(one: ReaderQuality) -> str:
    pairs = f"{one.pairs}" + (f" (+ {one.one_rejected} one rejected)" if one.one_rejected else "")
    cells = [
        (escape(one.reader), ""),
        (words.TASK[one.task], ""),
        (pairs, "number"),
        (_missing(one) if one.missing else _share(one.within_threshold), "number"),
        (_missing(one) if one.missing else _coefficients(one), ""),
        (_difference(one), ""),
        (str(one.gold or "–"), "number"),
        (_gold(one), "number"),
        ("–" if one.median_seconds is None else f"{one.median_seconds:.0f} s (n = {one.timed})", "number"),
    ]
    return "<tr>" + "".join(f'<td class="{kind}">{text}</td>' for text, kind in cells) + "</tr>"


def _missing(one: ReaderQuality) -> str:
    return f'<span class="quiet">{escape(one.missing or "")}</span>' if one.pairs else "–"


def _share(found: Interval) -> str:
    between = "" if found.low is None else f" ({found.low:.0%} to {found.high:.0%})"
    return f"{found.value:.0%}{between}"


def _gold(one: ReaderQuality) -> str:
    """A few are counted, and nothing is estimated from them."""
    if one.gold_share is not None:
        return _share(one.gold_share)
    return str(one.gold_right) if one.gold else "–"


def _coefficients(one: ReaderQuality) -> str:
    if one.icc is not None:
        return f"ICC {_number(one.icc)}"
    return "<br>".join(f"{FIELD_WORDS[name]} {_number(kappa)}" for name, kappa in one.kappas.items())


def _number(found: Interval) -> str:
    if found.value is None:
        return '<span class="quiet">not defined: no variation</span>'
    between = f" ({found.reason})" if found.low is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.value:.2f}{between}"


def _difference(one: ReaderQuality) -> str:
    if one.bland_altman is None:
        return _missing(one) if one.task is Task.BONE_AGE else "–"
    bias, lower, upper = one.bland_altman.bias, one.bland_altman.lower_limit, one.bland_altman.upper_limit
    return (
        f"{bias.value:+z.1f} months ({bias.low:+z.1f} to {bias.high:+z.1f})<br>"
        f'<span class="quiet">limits {lower.value:+z.1f} to {upper.value:+z.1f}</span>'
    )


# ---------------------------------------------------------------- gold cases


def gold_set(gold: list[Gold], candidates: list[Candidate]) -> None:
    st.html(f'<div class="block-title section"><span>Gold cases, {len(gold)} in use</span></div>')
    for one in gold[:SHOWN]:
        with st.container(horizontal=True, vertical_alignment="center"):
            page_parts.caption(f"{words.TASK[one.task]} · {answer_words(one.answer)} · {one.source}")
            st.space("stretch")
            st.button("Retire", key=f"retire_{one.gold_id}", type="tertiary", on_click=retire_gold, args=(one.gold_id,))
    if len(gold) > SHOWN:
        page_parts.caption(f"and {len(gold) - SHOWN} more")
    if not candidates:
        page_parts.empty(
            "No case is beyond doubt yet",
            "Cases that two blind readers agree on, or an adjudicator settled, appear here to be chosen.",
        )
        return
    st.html('<div class="block-title part"><span>Beyond doubt, and not used yet</span></div>')
    for one in candidates[:SHOWN]:
        with st.container(horizontal=True, vertical_alignment="center"):
            page_parts.caption(f"{words.TASK[one.task]} · {one.pseudonym} · {answer_words(one.answer)} · {one.why}")
            st.space("stretch")
            st.button("Use as gold case", key=f"gold_{one.image_id}", on_click=use_as_gold, args=(one,))
    if len(candidates) > SHOWN:
        page_parts.caption(f"The latest {SHOWN}; older ones follow as these are used.")


def use_as_gold(one: Candidate) -> None:
    _act(lambda session: gold_cases.make_gold(session, user(), one.image_id, one.why))


def retire_gold(gold_id: int) -> None:
    _act(lambda session: gold_cases.retire(session, user(), gold_id))


def _act(what) -> None:
    try:
        with database.session() as session:
            what(session)
    except PediScreenError as error:
        st.toast(words.sentence(str(error)))


show()
