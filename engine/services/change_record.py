"""The record of a change of model: what changed, how it was judged, who signed. Markdown and PDF.

Its sections are those that the FDA's guidance on predetermined change control plans names (Marketing Submission
Recommendations for a Predetermined Change Control Plan for Artificial Intelligence-Enabled Device Software Functions,
December 2024): description of modifications, modification protocol with its four parts, impact assessment. It is no
such plan, and says so."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from engine.annotations import SPLITS
from engine.findings.answers import Task
from engine.findings.summary import TASK_WORDS, answer_words
from engine.promotion_gate import (
    CORRECTED,
    FALSE_PROMOTION,
    LOCKED,
    MARGINS,
    REFERENCE,
    UNREAD_MONTHS,
    WORSE_MONTHS,
    Decision,
    Figure,
)
from engine.services.record_layout import Block, Bullets, Heading, Table, Text, as_markdown, as_pdf
from engine.services.training_set import LEFT_OUT_WORDS

FILE_NAME = "change-record.md"
PDF_NAME = "change-record.pdf"
MAX_CASES_LISTED = 40

PHANTOM = "Phantom: made with synthetic images and the phantom model. Not for diagnostic use."
NO_PLAN = (
    "The sections follow the form of a predetermined change control plan. This is a record that the workstation keeps; "
    "no such plan has been submitted to or authorised by anyone, and the workstation is not a medical device."
)
OUTCOME_WORDS = {
    "promoted": "promoted: the candidate is the model in use from the time of the signature",
    "declined": "declined by the person who signed, although the gate would have let it through",
    "held": "held by the gate: the model in use stays",
}
WAY_BACK = (
    "Open Models in the section Administration and choose Roll back, or run `pediscreen models rollback`. The workers "
    "change over within seconds, between two reads; reads that were made keep the version that made them."
)


@dataclass(frozen=True)
class Signature:
    username: str
    display_name: str
    at: datetime
    comment: str | None


@dataclass(frozen=True)
class ChangeFacts:
    """`data_set_counts` and `left_out` as in the data_set row (engine.services.training_set)."""

    run_id: int
    outcome: Literal["promoted", "declined", "held"]
    decision: Decision
    model_in_use: str  # version names, as reads carry them
    candidate: str
    base_model: str
    candidate_sha256: str | None
    data_set_sha256: str
    data_set_counts: dict[str, Any]
    left_out: dict[str, int]
    code_version: str
    settings: dict[str, Any]
    started_by: str
    started_at: datetime
    signature: Signature | None  # None while held by the gate
    is_phantom: bool


def markdown(facts: ChangeFacts) -> str:
    return as_markdown(list(_blocks(facts)))


def write(facts: ChangeFacts, folder: Path) -> Path:
    """Writes FILE_NAME and PDF_NAME to `folder`; returns the markdown's path. The same facts give the same files, and
    a file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    title = f"Change record, retraining {facts.run_id}"
    footer = f"PediScreen: {title}" + (" · phantom, not for diagnostic use" if facts.is_phantom else "")
    pdf = as_pdf(list(_blocks(facts)), title, footer)
    for name, content in ((PDF_NAME, pdf), (FILE_NAME, markdown(facts).encode())):
        unfinished = folder / f".{name}.unfinished"
        unfinished.write_bytes(content)
        os.replace(unfinished, folder / name)
    return folder / FILE_NAME


# --- the sections ---


def _blocks(facts: ChangeFacts) -> Iterator[Block]:
    yield Heading(1, f"Change record: retraining {facts.run_id}")
    if facts.is_phantom:
        yield Text(PHANTOM, is_warning=True)
    yield Text(NO_PLAN)
    signature = facts.signature
    yield Table(
        ("", ""),
        [
            ("Outcome", OUTCOME_WORDS[facts.outcome]),
            ("Model in use before", facts.model_in_use),
            ("Candidate", facts.candidate),
            ("Started", f"{facts.started_by}, {_time(facts.started_at)}"),
            (
                "Signed",
                f"{signature.display_name} ({signature.username}), {_time(signature.at)}"
                if signature
                else "not signed",
            ),
        ],
        (1, 3.5),
    )
    yield from _modification(facts)
    yield from _protocol(facts)
    yield from _impact(facts)
    yield from _decision(facts)


def _modification(facts: ChangeFacts) -> Iterator[Block]:
    yield Heading(2, "1 Description of the modification")
    yield Text(
        "The weights change; the purpose does not. The model was trained further on decisions "
        "of the readers of this workstation (LoRA, merged into the 4-bit weights). Tasks, answers, inputs, image "
        "preprocessing and the rules of urgency are as before."
    )
    yield Table(
        ("Item", "Value"),
        [
            ("Base model", facts.base_model),
            ("Candidate", facts.candidate),
            ("SHA-256 of the candidate's folder", facts.candidate_sha256 or "not registered"),
            ("Data set (SHA-256)", facts.data_set_sha256),
            ("Code version", facts.code_version),
        ],
        (1, 2.6),
    )


def _protocol(facts: ChangeFacts) -> Iterator[Block]:
    counts = facts.data_set_counts
    yield Heading(2, "2 Modification protocol")
    yield Heading(3, "2.1 Data management")
    yield Text(
        "Each patient belongs to one split for ever, by a hash of the pseudonym; the locked test set was never trained "
        f"or chosen on. {counts.get('patients', 'unknown')} patients. An image on which two readers differ is used "
        "only after an adjudicator decided."
    )
    yield Table(
        ("Task", *(f"{split} images" for split in SPLITS), "corrected", "confirmed", "replayed"),
        [
            (
                TASK_WORDS[task],
                *(str(counts.get(task, {}).get(split, 0)) for split in SPLITS),
                *(str(counts.get(kind, {}).get(task, 0)) for kind in ("corrected", "confirmed", "replay")),
            )
            for task in Task
        ],
        (1.4, 1, 1, 1, 1, 1, 1),
    )
    for name, title in (("sites", "Site"), ("sex", "Sex")):
        if counts.get(name):
            yield Table((title, "images"), [(key, str(n)) for key, n in counts[name].items()], (3, 1))
    left_out = [(LEFT_OUT_WORDS.get(code, code), str(n)) for code, n in sorted(facts.left_out.items())]
    yield Table(("Left out because", "images"), left_out or [("nothing was left out", "0")], (3, 1))
    yield Heading(3, "2.2 Re-training")
    yield Table(("Setting", "Value"), [(name, str(value)) for name, value in sorted(facts.settings.items())], (1, 2))
    yield Heading(3, "2.3 Performance evaluation")
    yield Text(
        f"Both models read the same cases: the {LOCKED} set, the {REFERENCE} where the model is a phantom model, and "
        f"all {CORRECTED}, those used in training apart. Differences are paired; intervals are a bootstrap over "
        "patients with one pretended patient added who fares worst. A case without a read counts as an error "
        f"({UNREAD_MONTHS:.0f} months for bone age). Over all tasks and tries the chance of calling a gain what is none"
        f" is meant to be at most {FALSE_PROMOTION:.0%}."
    )
    yield Table(
        ("Task", "Measure", "Not worse: up to", "Floor", "Why"),
        [
            (TASK_WORDS[task], measure, _amount(m.not_worse, m.unit), _amount(m.floor, m.unit), m.reason)
            for (task, measure), m in MARGINS.items()
        ],
        (1, 1.1, 1.1, 1, 4),
    )
    yield Heading(3, "2.4 Update procedure")
    yield Text(
        "A promotion is one row in the database that the workers follow: each checks the folder's hash, loads the new "
        "model beside the old one and changes over between two reads. Reads made before are not repeated."
    )
    yield Text(f"Way back: {WAY_BACK}")


def _impact(facts: ChangeFacts) -> Iterator[Block]:
    figures = facts.decision.figures
    groups = (LOCKED, REFERENCE)
    yield Heading(2, "3 Impact assessment")
    yield Heading(3, "3.1 All cases of a set")
    yield _figure_table([f for f in figures if f.group in groups or f.group.startswith(CORRECTED)])
    yield Heading(3, "3.2 Subgroups")
    subgroups = [f for f in figures if f.group not in groups and not f.group.startswith(CORRECTED)]
    if subgroups:
        yield _figure_table(subgroups)
    else:
        yield Text("No subgroup can be told apart in these cases.")
    yield Heading(3, "3.3 Cases that got worse")
    worse = facts.decision.worse_cases
    if not worse:
        yield Text("None.")
        return
    counted = Counter((case.task, case.group) for case in worse)
    summary = "; ".join(f"{n} {TASK_WORDS[Task(task)]}, {group}" for (task, group), n in sorted(counted.items()))
    yield Text(
        f"{len(worse)} cases ({summary}). A bone age is listed when its error grew by {WORSE_MONTHS:.0f} months or "
        "more. Their pictures were shown before the signature and lie beside this record in comparison/worse."
    )
    yield Table(
        ("Case", "Set", "Truth", "Model in use", "Candidate"),
        [
            (case.case_id, case.group, _answer(case.truth), _answer(case.in_use_answer), _answer(case.candidate_answer))
            for case in worse[:MAX_CASES_LISTED]
        ],
        (2.4, 1.2, 1.5, 1.5, 1.5),
    )
    if len(worse) > MAX_CASES_LISTED:
        yield Text(f"and {len(worse) - MAX_CASES_LISTED} more, in comparison/comparison.json.")


def _decision(facts: ChangeFacts) -> Iterator[Block]:
    yield Heading(2, "4 Decision and signature")
    yield Text(f"The gate {'lets the candidate through' if facts.decision.promote else 'holds the candidate'}:")
    yield Bullets(facts.decision.reasons)
    if facts.signature is None:
        yield Text("Not signed: what the gate holds cannot be signed.")
        return
    signature = facts.signature
    yield Table(
        ("Signed by", "Account", "Time", "Comment"),
        [(signature.display_name, signature.username, _time(signature.at), signature.comment or "none")],
        (1.5, 1, 1.2, 3),
    )


def _figure_table(figures: Sequence[Figure]) -> Table:
    return Table(
        ("Task", "Cases", "Measure", "In use", "Candidate", "Change (interval)", "Asked", "Met"),
        [
            (
                TASK_WORDS[Task(f.task)],
                f"{f.group}: {f.cases} cases, {f.patients} patients",
                f.measure,
                _amount(f.in_use, f.unit),
                _amount(f.candidate, f.unit),
                f"{_change(f.difference, f.unit)} ({_change(f.low, f.unit)} to {_change(f.high, f.unit)}; "
                f"{f.confidence:.1%})",
                f.rule if f.limit is None or f.rule == "better" else f"{f.rule}, {_change(f.limit, f.unit)}",
                {True: "yes", False: "no", None: ""}[f.passed],
            )
            for f in figures
        ],
        (1, 2, 1.1, 0.9, 1, 2.1, 1.2, 0.5),
    )


# --- words ---


def _answer(answer: dict[str, Any] | None) -> str:
    return "no read" if answer is None else answer_words(answer)


def _amount(value: float, unit: str) -> str:
    return f"{value:.2f} mo" if unit == "months" else f"{value:.1%}"


def _change(value: float, unit: str) -> str:
    return f"{value:+.2f} mo" if unit == "months" else f"{value * 100:+.1f} pt"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
