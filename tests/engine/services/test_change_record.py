from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pypdf import PdfReader

from engine.findings.answers import Task, bone_age_answer, fracture_answer
from engine.promotion_gate import Decision, Figure, WorseCase
from engine.services.change_record import ChangeFacts, Signature, markdown, write

SHA = "0123456789abcdef" * 4


def figure(
    task: Task, group: str, rule: str, passed: bool | None, unit: str = "share", measure: str = "error"
) -> Figure:
    limit = {"not worse": 0.05, "floor": 0.15, "better": 0.0, "shown": None}[rule]
    return Figure(task, group, "error", unit, 31, 30, 0.2, 0.1, -0.1, -0.2, -0.01, 0.95, rule, limit, passed)


DECISION = Decision(
    promote=True,
    reasons=["Better: bone age, locked test: the error fell from 7.1 months to 3.0 months.", "Not worse on any task."],
    figures=[
        figure(Task.BONE_AGE, "locked test", "better", True, "months"),
        figure(Task.FRACTURE, "reference phantoms", "not worse", True),
        figure(Task.FRACTURE, "corrected cases, trained on", "shown", None),
        figure(Task.ROP, "girls", "floor", True),
    ],
    worse_cases=[
        WorseCase("bone_age/test/a.png", "bone_age", "locked test", False, "worse/a.png", bone_age_answer(110),
                  bone_age_answer(110), bone_age_answer(120), 0.0, 10.0),
        WorseCase("fractures/test/b.png", "fracture", "locked test", False, "worse/b.png", fracture_answer("buckle"),
                  fracture_answer("buckle"), None, 0.0, 1.0),
    ],
)  # fmt: skip
FACTS = ChangeFacts(
    run_id=12,
    outcome="promoted",
    decision=DECISION,
    model_in_use="phantom 0.3 (1a2b3c4d)",
    candidate="retrained 12 (5e6f7a8b)",
    base_model="phantom",
    candidate_sha256=SHA,
    data_set_sha256=SHA[::-1],
    data_set_counts={
        "bone_age": {"train": 101, "val": 22, "test": 31},
        "corrected": {"bone_age": 150},
        "confirmed": {"bone_age": 4},
        "replay": {"bone_age": 75},
        "sites": {"Kinderklinik Süd": 154},
        "sex": {"F": 80, "M": 74},
        "patients": 149,
    },
    left_out={"readers_differ": 3, "leak": 1},
    code_version="0.3.0+abc1234",
    settings={"learning_rate": 0.001, "epochs": 8},
    started_by="demo-admin",
    started_at=datetime(2026, 11, 24, 10, 0, tzinfo=UTC),
    signature=Signature(
        "demo-admin", "Jürgen Großmüller-Øster", datetime(2026, 11, 24, 10, 30, tzinfo=UTC), "geprüft, ja"
    ),
    is_phantom=True,
)


def text_of(pdf: Path) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(pdf).pages).split())


def changed(**changes: object) -> ChangeFacts:
    return dataclasses.replace(FACTS, **changes)


def test_everything_an_auditor_asks_for_is_in_both(tmp_path: Path) -> None:
    path = write(FACTS, tmp_path)
    text = path.read_text(encoding="utf-8").replace("\\", "")
    pdf = text_of(tmp_path / "change-record.pdf")
    joined = pdf.replace(" ", "")
    for said in (
        "Description of the modification", "Modification protocol", "Data management", "Re-training",
        "Performance evaluation", "Update procedure", "Impact assessment", "Decision and signature",
        "no such plan has been submitted", "phantom 0.3 (1a2b3c4d)", "retrained 12 (5e6f7a8b)", SHA, SHA[::-1],
        "0.3.0+abc1234", "learning_rate", "0.001", "demo-admin", "2026-11-24 10:00 UTC", "2026-11-24 10:30 UTC",
        "Jürgen Großmüller-Øster", "geprüft, ja", "Kinderklinik Süd", "149 patients",
        "two readers differ and no adjudicator has decided", "Better: bone age, locked test: the error fell",
        "-10.0 pt (-20.0 pt to -1.0 pt; 95.0%)", "girls", "Martin et al.", "unverified", "no read", "10 y 0 m",
        "Roll back", "pediscreen models rollback",
    ):  # fmt: skip
        assert said in text, said
        assert said.replace(" ", "") in joined, said  # a narrow column may break a word


def test_a_phantoms_record_says_so_on_every_page(tmp_path: Path) -> None:
    write(FACTS, tmp_path)
    found = PdfReader(tmp_path / "change-record.pdf")
    assert found.metadata.title == "Change record, retraining 12"
    pages = found.pages
    assert len(pages) > 1
    for page in pages:
        assert "phantom, not for diagnostic use" in page.extract_text()
    assert "Not for diagnostic use" in markdown(FACTS)
    assert "diagnostic use" not in markdown(changed(is_phantom=False))


def test_the_same_facts_give_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(FACTS, tmp_path / name)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and set(one) == {"change-record.md", "change-record.pdf"}


def test_what_is_held_is_not_signed() -> None:
    held = dataclasses.replace(DECISION, promote=False, reasons=["Worse: fracture, reference phantoms: ..."])
    text = markdown(changed(outcome="held", decision=held, signature=None))
    assert "held by the gate: the model in use stays" in text and "not signed" in text
    assert "Worse: fracture, reference phantoms" in text and "The gate holds the candidate" in text


def test_what_somebody_typed_is_only_text(tmp_path: Path) -> None:
    comment = "ok | <script>alert(1)</script> **bold** [x](http://y)\n| a | b |"
    name = "Dvořák, Łukasz Ж <b>" + "long" * 40
    facts = changed(signature=Signature("a", name, FACTS.signature.at, comment))
    write(facts, tmp_path)
    text = (tmp_path / "change-record.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if "alert" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 5 and "<script" not in row.replace("\\<", "")
    pdf = text_of(tmp_path / "change-record.pdf").replace(" ", "")
    assert "<script>alert(1)</script>**bold**" in pdf
    assert "Dvorák" in pdf or "Dvořák" in pdf
    assert "Łukasz?" in pdf and "long" * 40 in pdf


def test_a_long_list_of_worse_cases_is_cut(tmp_path: Path) -> None:
    many = [dataclasses.replace(DECISION.worse_cases[0], case_id=f"bone_age/test/{n}.png") for n in range(90)]
    facts = changed(decision=dataclasses.replace(DECISION, worse_cases=many))
    text = markdown(facts)
    assert (
        "90 cases (90 bone age, locked test)" in text and "and 50 more" in text and "/39.png" in text.replace("\\", "")
    )
    assert "/40.png" not in text.replace("\\", "")
    write(facts, tmp_path)


@pytest.mark.parametrize("missing", [{}, {"patients": 3}])
def test_counts_that_are_missing_are_not_made_up(missing: dict) -> None:
    assert "unknown patients" in markdown(changed(data_set_counts={})) or missing
    assert markdown(changed(data_set_counts=missing, left_out={}))
