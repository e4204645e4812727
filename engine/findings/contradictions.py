"""What cannot be true of one child: likelier a mix-up of films, sides or children than a finding. A question to the
reader, never a correction.

All thresholds are defaults of this workstation, unverified:
    Bone age    never falls. A fall within what two readings of one film differ by (0.63 y RMS: Thodberg & Savendahl,
                Acad Radiol 2010;17:1425-32) is told, but not as a contradiction
    ROP zone    vessels grow outward, so that a zone never comes nearer to the disc, but for a notch or a reactivation;
                two zones further within four weeks is a jump
    Side        hands are followed up on one side; a wrist seen again within twelve weeks is the same one"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from engine.findings.additions import Additions
from engine.findings.age import age_months_at, months_words
from engine.findings.answers import Answer, Task, Zone
from engine.findings.bone_age import TWO_READINGS_DIFFER_MONTHS

ZONE_JUMP_DAYS = 28
SAME_INJURY_DAYS = 84
OUTWARD = (Zone.I, Zone.II, Zone.III, Zone.NONE)
SIDE = {"L": "left", "R": "right"}


@dataclass(frozen=True)
class Seen:
    """A dated film of the child; `answer` None: not graded. `is_decided`: by a reader, not by the model alone."""

    on: date
    task: Task
    side: Literal["L", "R", None]
    answer: Answer | None = None
    additions: Additions | None = None
    is_decided: bool = True


@dataclass(frozen=True)
class Contradiction:
    """`code` is stable. `is_minor`: within the error of the readings, to be told rather than asked."""

    code: str
    text: str
    is_minor: bool = False


def of_answer(now: Seen, others: Sequence[Seen]) -> list[Contradiction]:
    """Where what is said of this film contradicts what is known from the child's other days."""
    graded = [
        one
        for one in others
        if one.task is now.task and one.on != now.on and one.answer is not None and one.answer["task"] == now.task
    ]
    if now.answer is None or now.answer["task"] != now.task or not graded:
        return []
    check = {Task.BONE_AGE: _bone_age_fell, Task.ROP: _zone_jumped}.get(now.task)
    found = check(now, graded) if check else None
    return [found] if found else []


def side_changed(now: Seen, others: Sequence[Seen]) -> Contradiction | None:
    """Every earlier film shows the other side."""
    if now.side is None or now.task is Task.ROP:
        return None
    earlier = [one for one in others if one.task is now.task and one.on < now.on and one.side is not None]
    if now.task is Task.FRACTURE:
        earlier = [one for one in earlier if (now.on - one.on).days <= SAME_INJURY_DAYS]
    if not earlier or any(one.side == now.side for one in earlier):
        return None
    last = max(earlier, key=lambda one: one.on)
    return Contradiction(
        "side_changed",
        f"Side changed: {SIDE[last.side]} on {_day(last.on)}, {SIDE[now.side]} on this film. Check its marker.",
    )


def names_differ(one: str | None, other: str | None) -> bool:
    """Two (0010,0010) Patient's Names that cannot be the same person's: another family name, or another given name
    where neither begins the other. Letter case, ideographic groups and further components do not count."""
    if not one or not other:
        return False
    (family, given), (other_family, other_given) = _name(one), _name(other)
    if family != other_family:
        return True
    return not (given.startswith(other_given) or other_given.startswith(given))


def _bone_age_fell(now: Seen, graded: list[Seen]) -> Contradiction | None:
    falls = []
    for other in graded:
        earlier, later = sorted((other, now), key=lambda one: one.on)
        fall = int(earlier.answer["bone_age_months"]) - int(later.answer["bone_age_months"])
        falls.append((fall, earlier, later))
    fall, earlier, later = max(falls, key=lambda one: one[0])
    if fall <= 0:
        return None
    after = int(age_months_at(earlier.on, later.on))
    after_words = f"{after} month{'' if after == 1 else 's'}" if after else f"{(later.on - earlier.on).days} days"
    is_minor = fall <= TWO_READINGS_DIFFER_MONTHS
    ask = (
        f"two readings of one film differ by {TWO_READINGS_DIFFER_MONTHS} months"
        if is_minor
        else "check child, side and both readings"
    )
    return Contradiction(
        "bone_age_fell",
        f"Bone age fell by {fall} month{'' if fall == 1 else 's'} in {after_words}:"
        f" {_when(earlier, now, _months)}, {_when(later, now, _months)}; {ask}.",
        is_minor,
    )


def _zone_jumped(now: Seen, graded: list[Seen]) -> Contradiction | None:
    same_eye = [one for one in graded if one.side is not None and one.side == now.side]
    before = max((one for one in same_eye if one.on < now.on), key=lambda one: one.on, default=None)
    after = min((one for one in same_eye if one.on > now.on), key=lambda one: one.on, default=None)
    for earlier, later in ((before, now), (now, after)):
        if earlier is None or later is None:
            continue
        steps = _rank(later) - _rank(earlier)
        said = f"{_when(earlier, now, _zone)}, {_when(later, now, _zone)}"
        if steps < 0 and not _explains_going_back(earlier, later):
            return Contradiction(
                "zone_went_back",
                f"Zone went back: {said}. Vessels grow outward: check eye and child, or add notch or reactivation.",
            )
        if steps >= 2 and (later.on - earlier.on).days <= ZONE_JUMP_DAYS:
            return Contradiction(
                "zone_jumped",
                f"Zone jumped in {(later.on - earlier.on).days} days: {said}. Check eye and child.",
            )
    return None


def _explains_going_back(earlier: Seen, later: Seen) -> bool:
    """A notch counts as the zone it reaches into; reactivated disease may lie further back than it did."""
    return bool((later.additions or {}).get("notch") or (later.additions or {}).get("reactivation"))


def _when(one: Seen, now: Seen, said: Callable[[Seen], str]) -> str:
    if one is now:
        return f"{said(one)} on this film"
    return f"{said(one)} on {_day(one.on)}{'' if one.is_decided else ' (not reviewed)'}"


def _rank(one: Seen) -> int:
    return OUTWARD.index(Zone(one.answer["zone"]))


def _zone(one: Seen) -> str:
    zone = one.answer["zone"]
    return "fully vascularised" if zone == Zone.NONE else f"zone {zone}"


def _months(one: Seen) -> str:
    return months_words(int(one.answer["bone_age_months"]))


def _name(text: str) -> tuple[str, str]:
    """Family and given name of the alphabetic group, folded."""
    family, _, rest = text.split("=")[0].partition("^")
    given = rest.partition("^")[0]
    return " ".join(family.split()).casefold(), " ".join(given.split()).casefold()


def _day(on: date) -> str:
    return f"{on.day} {on:%b %Y}"
