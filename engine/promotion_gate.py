"""May a candidate replace the model in use? Decided on the cases that both have read (training.compare_models).

Three things are asked, all on differences paired case by case, with a bootstrap over patients:

- **not worse** on any task: harm as large as the margin is ruled out on the locked test set and on the reference
  phantoms, for the error, the findings missed and the share left unread; and on the cases readers once corrected.
- **floor**: no subgroup (sex, age, site) with enough patients, and no set too small for the above, fares worse by more
  than a wider limit. This catches gross harm to a group; it does not prove that there is none.
- **better** on at least one task, on the locked test set alone. The corrected cases cannot show that: they were picked
  because the model in use was wrong there, so that any other model looks better on them.

A case without a read counts as an error, so that a model which keeps silent where it is unsure gains nothing by it.

Every interval is drawn over the patients and one more, who fares as badly as any did (for shares: as badly as can be).
Without it, no harm among 30 patients would look like proof that there is none; with it, the bound is about the 3/n of
the rule of three."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.annotations import ANSWER_FIELDS
from engine.errors import Refused
from engine.findings.answers import TASK_OF_VIEW, Answer, Fracture, Plus, Task, Zone
from engine.findings.summary import TASK_WORDS
from engine.subgroups import SEX_NAMES, age_band

RESAMPLES = 5000
TAIL = 0.025  # of each bound of a 95 % interval
FALSE_PROMOTION = 0.05  # at most, over all tasks and all tries against one model in use

MIN_PATIENTS_SHARE = 60  # for an interval of shares: with fewer, 3/n alone is more than the margin
MIN_PATIENTS_MONTHS = 30  # for an interval of months
MIN_PATIENTS_FLOOR = 20
MIN_PATIENTS_BETTER = 20

UNREAD_MONTHS = 12.0  # what a hand without a read counts as; unverified, a year being where a reading misleads
WORSE_MONTHS = 2.0  # a bone age counts among the cases that got worse from this growth of its error

ERROR, MISSED, UNREAD, VIEW = "error", "missed findings", "unread", "view not recognised"
LOCKED, REFERENCE, CORRECTED = "locked test", "reference phantoms", "corrected cases"
MEASURE_WORDS = {
    ERROR: "the error",
    MISSED: "the share of findings missed",
    UNREAD: "the share left unread",
    VIEW: "the share whose view was not recognised",
}
GROUP_OF_SET = {"locked_test": LOCKED, "reference": REFERENCE, "replay": CORRECTED}


@dataclass(frozen=True)
class Margin:
    """How much worse is still called "not worse", the limit of the floor, and why."""

    unit: str
    not_worse: float
    floor: float
    reason: str


POINTS = "unverified: five percentage points, a customary margin; no source gives one for this task"
FINDINGS = "unverified: ten points, as the 60 to 100 reference phantoms with a finding cannot rule out less"
MARGINS: dict[tuple[Task, str], Margin] = {
    (Task.BONE_AGE, ERROR): Margin(
        "months", 0.7, 2.0,
        "a tenth of the SD with which people rate one film (0.58 y, quoted in Martin et al., Sci Rep 2022;12:6388); "
        "the tenth is unverified",
    ),
    (Task.ROP, ERROR): Margin("share", 0.05, 0.15, f"mean of zone, stage and plus disease; {POINTS}"),
    (Task.FRACTURE, ERROR): Margin("share", 0.05, 0.15, POINTS),
    (Task.ROP, MISSED): Margin("share", 0.10, 0.15, f"zone I or plus disease not called; {FINDINGS}"),
    (Task.FRACTURE, MISSED): Margin("share", 0.10, 0.15, f"a fracture read as normal; {FINDINGS}"),
    **{(task, UNREAD): Margin("share", 0.05, 0.15, POINTS) for task in Task},
    **{(task, VIEW): Margin("share", 0.10, 0.15, f"sent to the wrong task; {FINDINGS}") for task in Task},
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One line of the gate's table: the mean of both models over some cases, and their difference, paired.

    `difference` is candidate minus in use; above 0 the candidate is worse, whatever `measure` is. It may be a little
    off the difference of the interval's middle, which counts one pretended patient."""

    task: str
    group: str  # "locked test", "reference phantoms", "corrected cases", "girls", "5-9 y", "site: B" ...
    measure: str  # "error", "missed findings", "unread", "view not recognised"
    unit: str  # "months", "share"
    cases: int
    patients: int
    in_use: float
    candidate: float
    difference: float
    low: float
    high: float
    confidence: float  # of low to high, such as 0.95
    rule: str  # "not worse", "floor", "better", "shown": what is asked of it
    limit: float | None
    passed: bool | None  # None: nothing is asked of this figure


@dataclass(frozen=True)
class WorseCase:
    """A case whose error grew. `picture` is relative to the comparison's folder."""

    case_id: str
    task: str
    group: str
    trained_on: bool
    picture: str | None
    truth: dict[str, Any]
    in_use_answer: dict[str, Any] | None  # None: no read
    candidate_answer: dict[str, Any] | None
    in_use_error: float
    candidate_error: float


@dataclass(frozen=True)
class Decision:
    """`reasons` are sentences for the admin: why it is held, else what it is promoted for."""

    promote: bool
    reasons: list[str]
    figures: list[Figure]
    worse_cases: list[WorseCase]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Decision:
        figures = [Figure(**figure) for figure in found["figures"]]
        return cls(found["promote"], found["reasons"], figures, [WorseCase(**case) for case in found["worse_cases"]])


def decide(comparison: dict[str, Any], *, earlier_tries: int = 0) -> Decision:
    """`comparison` is comparison.json. `earlier_tries`: candidates already compared with this model in use; each try
    at the same test makes a lucky win likelier, so later ones must win more clearly.

    Raises Refused("not_a_comparison") for anything else."""
    cases, tasks = _cases(comparison)
    by_task = {task: [case for case in cases if case.task is task] for task in tasks}
    figures: list[Figure] = []
    held: list[str] = []
    for task, of_task in by_task.items():
        asked = list(_not_worse(task, of_task))
        figures += asked
        if not any(f.rule == "not worse" and f.measure == ERROR and f.group != CORRECTED for f in asked):
            held.append(_too_few(task, of_task))
        figures += _subgroups(task, of_task)
    tail = tail_of_better(earlier_tries, len(tasks))
    better = [figure for task, of_task in by_task.items() for figure in _better(task, of_task, tail)]
    figures = better + figures

    held += [_sentence(figure) for figure in figures if figure.passed is False and figure.rule != "better"]
    won = [figure for figure in better if figure.passed]
    if not won:
        held.append(_no_better(better, cases))
    worse = sorted(_worse_cases(cases), key=lambda c: (c.task, c.in_use_error - c.candidate_error, c.case_id))
    if held:
        return Decision(False, held, figures, worse)
    groups = sum(figure.rule == "floor" for figure in figures)
    words = ", ".join(TASK_WORDS[task] for task in tasks)
    reasons = [_sentence(figure) for figure in won]
    reasons.append(f"Not worse on any task ({words}), nor below the floor in any of {groups} smaller groups.")
    return Decision(True, reasons, figures, worse)


# --- one case ---


@dataclass(frozen=True)
class _Case:
    """`measures`: name -> (of the model in use, of the candidate); a measure that does not apply is missing."""

    case_id: str
    task: Task
    set: str
    corrected: bool
    trained_on: bool
    patient: str
    subgroups: tuple[str, ...]
    measures: dict[str, tuple[float, float]]
    record: dict[str, Any]


def error_of(truth: Answer, answer: Answer | None) -> float:
    """Months for bone age; for ROP the share of zone, stage and plus disease that is wrong; for fracture 0 or 1."""
    task = Task(truth["task"])
    if answer is None:
        return UNREAD_MONTHS if task is Task.BONE_AGE else 1.0
    if task is Task.BONE_AGE:
        return abs(float(answer["bone_age_months"]) - float(truth["bone_age_months"]))
    fields = ANSWER_FIELDS[task]
    return sum(answer[field] != truth[field] for field in fields) / len(fields)


def missed_finding(truth: Answer, answer: Answer | None) -> float | None:
    """1 where the finding that must not be missed was not called; None where there is none (or no such finding)."""
    match Task(truth["task"]):
        case Task.FRACTURE if truth["fracture"] != Fracture.NORMAL:
            return float(answer is None or answer["fracture"] == Fracture.NORMAL)
        case Task.ROP if truth["zone"] == Zone.I or truth["plus_disease"] == Plus.PLUS:
            called = answer is not None and all(
                answer[field] == value
                for field, value in (("zone", Zone.I), ("plus_disease", Plus.PLUS))
                if truth[field] == value
            )
            return float(not called)
    return None


def got_worse(task: Task, in_use_error: float, candidate_error: float) -> bool:
    """Whether the admin is shown the case before signing."""
    growth = candidate_error - in_use_error
    return growth >= WORSE_MONTHS if task is Task.BONE_AGE else growth > 0


def _cases(comparison: dict[str, Any]) -> tuple[list[_Case], list[Task]]:
    try:
        cases = [_case(record) for record in comparison["cases"]]
        tasks = [Task(task) for task in comparison["tasks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Refused("not_a_comparison", f"this is not the result of training.compare_models: {error!r}") from None
    if not tasks:
        raise Refused("not_a_comparison", "the comparison names no task")
    return cases, tasks


def _case(record: dict[str, Any]) -> _Case:
    truth = record["truth"]
    task = Task(truth["task"])
    answers = [record[model]["answer"] for model in ("in_use", "candidate")]
    measures = {
        ERROR: tuple(error_of(truth, answer) for answer in answers),
        UNREAD: tuple(float(answer is None) for answer in answers),
    }
    missed = [missed_finding(truth, answer) for answer in answers]
    if None not in missed:
        measures[MISSED] = tuple(missed)
    views = [record[model].get("view") for model in ("in_use", "candidate")]
    if None not in views:
        measures[VIEW] = tuple(float(TASK_OF_VIEW.get(view) is not task) for view in views)
    if record["set"] not in GROUP_OF_SET:
        raise ValueError(f"set {record['set']!r}")
    age = record["age_months"]
    sex = SEX_NAMES.get(record["sex"])
    subgroups = (
        *([sex] if sex else []),
        *([age_band(task, age)] if age is not None else []),
        *([f"site: {record['site']}"] if record["site"] else []),
    )
    return _Case(
        record["id"], task, record["set"], record["corrected"], record["trained_on"], record["patient"], subgroups,
        measures, record,
    )  # fmt: skip


# --- figures ---


def _not_worse(task: Task, cases: list[_Case]) -> Iterator[Figure]:
    """The three sets, whole; those of the corrected cases that trained the candidate and those that did not are shown
    apart."""
    groups = [
        (LOCKED, [case for case in cases if case.set == "locked_test"], True),
        (REFERENCE, [case for case in cases if case.set == "reference"], True),
        (CORRECTED, [case for case in cases if case.corrected], True),
        (f"{CORRECTED}, trained on", [case for case in cases if case.corrected and case.trained_on], False),
        (f"{CORRECTED}, not trained on", [case for case in cases if case.corrected and not case.trained_on], False),
    ]
    for group, members, asked in groups:
        for measure in (ERROR, MISSED, UNREAD, VIEW):
            applies = [case for case in members if measure in case.measures]
            if not applies:
                continue
            margin = MARGINS[task, measure]
            patients = len({case.patient for case in applies})
            enough = MIN_PATIENTS_MONTHS if margin.unit == "months" else MIN_PATIENTS_SHARE
            if asked and patients >= enough:
                yield _figure(task, group, measure, applies, "not worse", margin.not_worse, lambda f: f.high)
            elif asked and patients >= MIN_PATIENTS_FLOOR:
                yield _figure(task, group, measure, applies, "floor", margin.floor, lambda f: f.difference)
            else:
                yield _figure(task, group, measure, applies)


def _subgroups(task: Task, cases: list[_Case]) -> Iterator[Figure]:
    """Over the cases that the candidate never saw; a subgroup that all of them belong to says nothing new."""
    unseen = [case for case in cases if case.set != "replay"]
    for name in sorted({name for case in unseen for name in case.subgroups}):
        for measure in (ERROR, MISSED):
            members = [case for case in unseen if name in case.subgroups and measure in case.measures]
            if not members or len(members) == sum(measure in case.measures for case in unseen):
                continue
            if len({case.patient for case in members}) >= MIN_PATIENTS_FLOOR:
                floor = MARGINS[task, measure].floor
                yield _figure(task, name, measure, members, "floor", floor, lambda f: f.difference)
            else:
                yield _figure(task, name, measure, members)


def _better(task: Task, cases: list[_Case], tail: float) -> Iterator[Figure]:
    members = [case for case in cases if case.set == "locked_test"]
    if len({case.patient for case in members}) >= MIN_PATIENTS_BETTER:
        yield _figure(task, LOCKED, ERROR, members, "better", 0.0, lambda f: f.high, tail, is_strict=True)


def tail_of_better(earlier_tries: int, tasks: int) -> float:
    """Bonferroni over the tasks; over the tries 6 / (pi k)^2 of the whole for the k-th, which sums to 1 for ever."""
    spent = 6 / (np.pi * (earlier_tries + 1)) ** 2
    return float(FALSE_PROMOTION * spent / tasks)


def _figure(
    task: Task,
    group: str,
    measure: str,
    cases: list[_Case],
    rule: str = "shown",
    limit: float | None = None,
    judged: Callable[[Figure], float] = lambda figure: figure.difference,
    tail: float = TAIL,
    is_strict: bool = False,
) -> Figure:
    in_use, candidate = np.array([case.measures[measure] for case in cases]).T
    difference = candidate - in_use
    unit = MARGINS[task, measure].unit
    worst = 1.0 if unit == "share" else max(0.0, float(difference.max()))
    low, high = paired_interval(difference, [case.patient for case in cases], worst, tail)
    figure = Figure(
        task.value, group, measure, unit, len(cases), len({case.patient for case in cases}), float(in_use.mean()),
        float(candidate.mean()), float(difference.mean()), low, high, 1 - 2 * tail, rule, limit, None,
    )  # fmt: skip
    if limit is None:
        return figure
    value = judged(figure)
    return Figure(**{**asdict(figure), "passed": bool(value < limit if is_strict else value <= limit)})


def paired_interval(
    difference: np.ndarray, patients: Sequence[str], worst: float, tail: float = TAIL, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of the mean over cases, whole patients drawn, one pretended patient with `worst` added."""
    _, index = np.unique(np.asarray(patients, str), return_inverse=True)
    sums = np.append(np.bincount(index, weights=difference), worst)
    counts = np.append(np.bincount(index), 1)
    rng = np.random.default_rng(seed)
    means = []
    rows = max(1, 1_000_000 // len(sums))
    for start in range(0, RESAMPLES, rows):
        drawn = rng.integers(0, len(sums), (min(rows, RESAMPLES - start), len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return float(low), float(high)


# --- words ---


def _sentence(figure: Figure) -> str:
    where = f"{TASK_WORDS[Task(figure.task)]}, {figure.group}"
    what = MEASURE_WORDS[figure.measure]
    moved = "rose" if figure.difference > 0 else "fell" if figure.difference < 0 else "stayed"
    change = (
        f"{what} {moved} from {_value(figure.in_use, figure.unit)} to {_value(figure.candidate, figure.unit)}"
        f" ({figure.confidence:.0%} interval of the change {_change(figure.low, figure.unit)} to "
        f"{_change(figure.high, figure.unit)}; {figure.patients} patients)"
    )
    if figure.rule == "better":
        return f"Better: {where}: {change}."
    limit = _change(figure.limit or 0.0, figure.unit)
    if figure.rule == "floor":
        return f"Worse: {where}: {change}; at most {limit} is let through."
    if figure.difference > (figure.limit or 0.0) or figure.low > 0:
        return f"Worse: {where}: {change}; at most {limit} is let through."
    return f"Not shown to be harmless: {where}: {change}; a rise of {limit} cannot be ruled out."


def _no_better(better: list[Figure], cases: list[_Case]) -> str:
    if cases and all(case.record["in_use"]["answer"] == case.record["candidate"]["answer"] for case in cases):
        return f"No better: both models give the same answer in all {len(cases)} cases."
    if not better:
        return (
            f"No better: no task has the {MIN_PATIENTS_BETTER} patients in the locked test set that are needed to show "
            "a gain. Review more cases, then try again."
        )
    found = "; ".join(_sentence(figure).removeprefix("Better: ").rstrip(".") for figure in better)
    return f"No better on any task than chance would bring: {found}."


def _too_few(task: Task, cases: list[_Case]) -> str:
    patients = len({case.patient for case in cases if case.set == "locked_test"})
    needed = MIN_PATIENTS_MONTHS if task is Task.BONE_AGE else MIN_PATIENTS_SHARE
    return (
        f"Too few cases to rule out harm: {TASK_WORDS[task]} has {patients} patients in the locked test set, and "
        f"{needed} are needed. Review more {TASK_WORDS[task]} cases, then try again."
    )


def _value(value: float, unit: str) -> str:
    return f"{value:.1f} months" if unit == "months" else f"{value:.1%}"


def _change(value: float, unit: str) -> str:
    return f"{value:+.1f} months" if unit == "months" else f"{value * 100:+.1f} points"


def _worse_cases(cases: list[_Case]) -> Iterator[WorseCase]:
    for case in cases:
        in_use, candidate = case.measures[ERROR]
        if got_worse(case.task, in_use, candidate):
            record = case.record
            yield WorseCase(
                case.case_id, case.task.value, GROUP_OF_SET[case.set], case.trained_on, record.get("picture"),
                record["truth"], record["in_use"]["answer"], record["candidate"]["answer"], in_use, candidate,
            )  # fmt: skip
