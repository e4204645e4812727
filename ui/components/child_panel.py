"""The child beside the film: growth, other films, what contradicts what; and what follows from the answer in the form.

Nothing here comes from the read or the reviews of the examination itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from html import escape

import streamlit as st

from engine.findings import additions
from engine.findings.answers import Task
from engine.findings.bone_age import NearestPlates
from engine.findings.contradictions import Contradiction
from engine.findings.growth import Indicator
from engine.findings.growth_visits import GrowthZ
from engine.findings.reference import Refusal, Source
from engine.findings.urgency import Level
from engine.services import child_context
from engine.services.child_context import (
    BoneAgeMeaning,
    ChildContext,
    EyeMeaning,
    FractureMeaning,
    MeasuredNear,
    OtherFilm,
)
from engine.services.review import ImageView, StudyView
from ui import words
from ui.components.finding_form import Entered

SHOWN = 2  # other examinations; the rest unfolds
AT_THE_HOUR = "at the hour of the examination"
SHORT_LIMITS = "Healthy, untreated children only; too high where bone age is advanced, too low where delayed"
INDICATORS = {
    Indicator.HEIGHT: "height",
    Indicator.WEIGHT: "weight",
    Indicator.BMI: "BMI",
    Indicator.HEAD: "head",
    Indicator.WEIGHT_FOR_LENGTH: "weight for height",
}


def show(context: ChildContext) -> None:
    """The CHILD block, whatever the film shows."""
    examinations = _examinations(context)
    measured = _growth(context.measured) if context.measured else ""
    unknown = [
        text
        for text, known in (("nothing measured", measured), ("no other film", examinations or context.undated))
        if not known
    ]
    chart = f'<a href="/growth?child={context.patient_id}" target="_blank">Growth chart</a>'
    beside = " · ".join([*unknown, chart])
    title = f'<div class="block-title part"><span>Child</span><span>{beside}</span></div>'
    lines = _postmenstrual(context) + measured
    facts = f'<dl class="facts">{lines}</dl>' if lines else ""
    st.html(title + _alerts(context.contradictions) + facts + _timeline(examinations, context.undated))


def show_title(study: StudyView, image: ImageView) -> None:
    """The REVIEW block is about this side; who said which it is."""
    side = words.SIDE.get(image.laterality)
    part = words.BODY_PART.get(study.task, "")
    said = f"{part}, {side}" if side else f"{part}, side not known"
    if image.laterality_entered_by:
        said += f", as {image.laterality_entered_by} entered"
    text = escape(said.removeprefix(", "))
    st.html(f'<div class="block-title part"><span>Review</span><span>{text}</span></div>')


def show_meaning(context: ChildContext, study: StudyView, image: ImageView, entered: Entered) -> None:
    """What follows from the answer in the form, and what it contradicts."""
    if entered.problem is not None:
        st.html(f'<div class="notice alert">{escape(entered.problem)} Nothing that you entered is lost.</div>')
    if entered.answer is None:
        return
    found = child_context.meaning(context, entered.answer, entered.additions)
    match found:
        case BoneAgeMeaning():
            lines = _bone_age(found)
        case EyeMeaning():
            lines = _eye(found, context) + _other_eye(study, image, context)
        case FractureMeaning():
            lines = _fracture(found)
    st.html(_alerts(child_context.contradictions_of(context, entered.answer, entered.additions)) + lines)


def _alerts(found: Iterable[Contradiction]) -> str:
    return "".join(
        f'<div class="notice {"" if one.is_minor else "alert"}" role="alert">{escape(one.text)}</div>' for one in found
    )


# ---------------------------------------------------------------- growth and other films


def _postmenstrual(context: ChildContext) -> str:
    """What screening for ROP goes by."""
    if context.task is not Task.ROP:
        return ""
    if context.postmenstrual_age_days is None:
        missing = "gestational age" if context.gestational_age_weeks is None else "birth or film date"
        return _fact("PMA", f"not known: no {missing}", "quiet")
    weeks, days = divmod(context.postmenstrual_age_days, 7)
    born, born_days = divmod(round(context.gestational_age_weeks * 7), 7)
    return (
        f'<dt title="Postmenstrual age">PMA</dt><dd>{weeks} w {days} d '
        f'<span class="quiet">born at {born} w {born_days} d</span></dd>'
    )


def _growth(near: MeasuredNear) -> str:
    visit = near.visit
    scores = [(name, visit.scored.values[indicator]) for indicator, name in INDICATORS.items()]
    parts = [
        f"{name} z {_signed(score.z)}{' (implausible)' if score.implausible else ''}"
        for name, score in scores
        if isinstance(score, GrowthZ)
    ]
    refusals = {score.reason for _, score in scores if isinstance(score, Refusal) and score.code != "not_measured"}
    standards = {score.standard for _, score in scores if isinstance(score, GrowthZ)}
    size = [
        f"{value:g} {unit}"
        for value, unit in ((visit.length_height_cm, "cm"), (visit.weight_kg, "kg"))
        if value is not None
    ]
    corrected = " · at corrected age" if "corrected" in visit.scored.age_basis else ""
    phantom = " · phantom" if visit.is_phantom else ""
    title = "; ".join([*standards, *sorted(refusals), *(issue.message for issue in visit.scored.issues)])
    z = " · ".join(parts) if parts else f"no z: {next(iter(sorted(refusals)), 'nothing to score')}"
    return (
        f'<dt>Growth</dt><dd title="{escape(title, quote=True)}">{escape(z)} '
        f'<span class="quiet">WHO · {escape(" · ".join(size))}, {escape(_when(near))}{corrected}{phantom}</span></dd>'
    )


def _when(near: MeasuredNear) -> str:
    if near.days is None:
        return f"measured {words.day(near.visit.measured_on)}"
    if near.days == 0:
        return "same day"
    return f"{_span(abs(near.days))} {'before' if near.days < 0 else 'after'} the film"


def _span(days: int) -> str:
    if days < 60:
        return words.counted(days, "day")
    return words.counted(round(days / 30.4375), "month") if days < 730 else words.age(days / 30.4375)


def _examinations(context: ChildContext) -> list[list[OtherFilm]]:
    """The films of one examination together, the side of the film under review first; the latest examination first."""
    by_study: dict[int, list[OtherFilm]] = {}
    for film in context.films:
        by_study.setdefault(film.study_id, []).append(film)
    return [sorted(films, key=lambda film: film.laterality != context.laterality) for films in by_study.values()]


def _timeline(examinations: list[list[OtherFilm]], undated: int) -> str:
    rows = [_row(films) for films in examinations]
    html = f'<ul class="timeline">{"".join(rows[:SHOWN])}</ul>' if rows else ""
    if rest := rows[SHOWN:]:
        more = words.counted(len(rest), "more examination")
        html += f'<details class="more"><summary>{more}</summary><ul class="timeline">{"".join(rest)}</ul></details>'
    if undated:
        html += f'<div class="aside">{words.counted(undated, "more film")} without a date.</div>'
    return html


def _row(films: list[OtherFilm]) -> str:
    first = films[0]
    said = "; ".join(_said(film, with_side=len(films) > 1) for film in films)
    part = words.BODY_PART.get(first.task, "Film")
    side = f", {words.SIDE[first.laterality]}" if len(films) == 1 and first.laterality else ""
    age = f", {words.age(first.age_months)}" if first.age_months is not None else ""
    return (
        f'<li><a href="/review?study={first.study_id}" target="_blank" title="Open in a new tab">'
        f"{words.day(first.acquired_on)}</a><span>{part}{side}{age}</span><span>{said}</span></li>"
    )


def _said(film: OtherFilm, with_side: bool) -> str:
    side = f"{film.laterality or '?'}: " if with_side else ""
    if film.words is None:
        return f'<span class="quiet">{side}{"rejected" if film.is_decided else "no read"}</span>'
    note = "" if film.is_decided else ' <span class="quiet">not reviewed</span>'
    return f"{side}{escape(film.words)}{note}"


# ---------------------------------------------------------------- what follows from the answer


def _bone_age(found: BoneAgeMeaning) -> str:
    facts = _fact("Plate", *_plates(found.plates))
    if isinstance(found.sds, Refusal):
        facts += _fact("SDS", f"none: {found.sds.reason}", "quiet")
    else:
        sds = found.sds
        facts += (
            f'<dt>SDS</dt><dd title="{escape(sds.source.citation, quote=True)}; delayed or advanced beyond 2 SD is a'
            f' convention, unverified">{_signed(sds.sds, 2)}, {sds.meaning} '
            f'<span class="quiet">{escape(sds.table_name)}, SD {sds.sd_months:.1f} mo{_status(sds.source)}</span></dd>'
        )
    if found.pace:
        gained, elapsed = found.pace.gained_months, round(found.pace.elapsed_months)
        since = words.day(found.pace.since)
        facts += _fact("Pace", f"{_signed(gained, 0)} months in {words.counted(elapsed, 'month')}, since {since}")
    return f'<dl class="facts">{facts}{_adult_height(found)}</dl>'


def _plates(plates: NearestPlates | Refusal) -> tuple[str, str]:
    if isinstance(plates, Refusal):
        return f"none: {plates.reason}", "quiet"
    child = words.CHILD[plates.nearest[0].sex]
    return " or ".join(f"{plate.number} ({plate.words})" for plate in plates.nearest) + f", {child}s' atlas", ""


def _adult_height(found: BoneAgeMeaning) -> str:
    height = found.adult_height
    if isinstance(height, Refusal):
        return _fact("Adult height", f"no prediction: {height.reason}", "quiet")
    source = f"Bayley-Pinneau, {height.maturity}{_status(height.source)}"
    return (
        f'<dt>Adult height</dt><dd title="{escape(f"{height.limits} {height.source.citation}", quote=True)}">'
        f'{height.adult_height_cm:.1f} cm <span class="quiet">{source}. {SHORT_LIMITS}</span></dd>'
    )


def _eye(found: EyeMeaning, context: ChildContext) -> str:
    plan = found.plan
    if found.act_by is not None:
        limit = f"{plan.action} by {_deadline(found.act_by)}, {AT_THE_HOUR} ({plan.act_within_hours} h)"
    elif plan.act_within_hours is not None:
        limit = f"{plan.action} within {plan.act_within_hours} h of the examination, whose date is not known"
    elif found.look_again_by is not None:
        limit = f"{plan.action} by {_deadline(found.look_again_by)} ({plan.interval})"
    else:
        limit = plan.action if plan.interval is None else f"{plan.action}: {plan.interval}"
    return _plan(plan.level, plan.finding, plan.rule, limit, plan.source)


def _other_eye(study: StudyView, image: ImageView, context: ChildContext) -> str:
    """The decision about the other eye of the same examination, where there is one: the worse eye decides."""
    others = [
        other
        for other in study.images
        if other.laterality and other.laterality != image.laterality and other.decision and other.decision.answer
    ]
    if study.task is not Task.ROP or not others:
        return ""
    decision = others[0].decision
    added = additions.stored(decision.answer, decision.details)
    found = child_context.meaning(context, decision.answer, added)
    name = words.sentence(words.SIDE[others[0].laterality])
    return f'<div class="aside">{name} eye, decided: {escape(found.plan.finding)}. The worse eye counts.</div>'


def _fracture(found: FractureMeaning) -> str:
    if found.plan is None:
        if found.urgency.level is Level.NONE:
            return ""
        source = f"{found.urgency.source}{', unverified' if found.urgency.unverified else ''}"
        text = escape(words.sentence(found.urgency.reason or ""))
        return f'<div class="plan {found.urgency.level}">{text} <span class="quiet">{escape(source)}</span></div>'
    plan, facts = found.plan, found.facts
    if plan.level is Level.NONE and plan.safeguarding is None:
        limit = facts.care or "nothing further"
    elif found.act_by is not None:
        limit = f"act by {_deadline(found.act_by)}, {AT_THE_HOUR} ({plan.act_within_hours} h)"
    elif plan.act_within_hours is not None:
        limit = f"act within {plan.act_within_hours} h of the examination"
    else:
        limit = facts.care
    code = f"AO {facts.ao_code}{_status(facts.ao_source)}" if facts.ao_code else ""
    rule = "; ".join(text for text in (facts.definition, code) if text)
    return _plan(plan.level, words.sentence(plan.reason), rule, limit, plan.source, plan.safeguarding)


def _plan(level: Level, finding: str, rule: str, limit: str, source: Source, warning: str | None = None) -> str:
    extra = f"<br><strong>{escape(words.sentence(warning))}</strong>" if warning else ""
    return (
        f'<div class="plan {level}"><strong>{escape(words.sentence(finding))}</strong> '
        f'<span class="quiet">{escape(rule)}</span><br>{escape(words.sentence(limit))}'
        f'<span class="quiet"> · {escape(source.citation)}{_status(source)}</span>{extra}</div>'
    )


def _deadline(day: date) -> str:
    return f"{words.day(day)}{', passed' if day < date.today() else ''}"


def _status(source: Source) -> str:
    """What a reader must know of the source; a found one is said in docs/clinical-references.md."""
    return ", unverified" if source.unverified else ""


def _signed(value: float, decimals: int = 1) -> str:
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")


def _fact(name: str, value: str, kind: str = "") -> str:
    return f'<dt>{name}</dt><dd class="{kind}">{escape(value)}</dd>'
