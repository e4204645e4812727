"""Where a model came from, step by step: its base, the decisions it learned from, how it was judged, who signed."""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from db.models import RetrainState
from engine.findings.answers import Task
from engine.promotion_gate import CORRECTED, ERROR, LOCKED, MISSED, REFERENCE, UNREAD
from engine.services.lineage import DataSetRow, DeploymentRow, ModelRow
from engine.services.training_set import LEFT_OUT_WORDS
from ui import words
from ui.components import page_parts

MEASURE = {ERROR: "Error", MISSED: "Findings missed", UNREAD: "Not read"}
WHOLE_GROUPS = (LOCKED, REFERENCE, CORRECTED)


def short_name(name: str) -> str:
    """Without the fingerprint of the weights."""
    return name.split(" (")[0]


def fingerprint(name: str) -> str:
    return name.split(" (")[1].rstrip(")") if " (" in name else ""


def show(row: ModelRow, history: list[DeploymentRow]) -> None:
    steps = [("Base", _base(row))]
    if row.data_set is not None:
        steps.append(("Learned from", _learned_from(row.data_set)))
    if made := _made(row):
        steps.append(("Made", made))
    if judged := _judged(row):
        steps.append(("Judged", judged))
    steps.append(("In use", _in_use(row, history)))
    lines = "".join(f"<li><span>{escape(name)}</span><div>{text}</div></li>" for name, text in steps)
    st.html(f'<ol class="lineage">{lines}</ol>')
    # Places of their own, emptied at once: what was there of the model opened before must not stand under this one.
    of_gate, of_training, records = (st.empty() for _ in range(3))
    if row.decision:
        with of_gate:
            figures(row.decision)
    if row.settings:
        with of_training, st.expander("Settings of the training"):
            page_parts.facts({name: str(value) for name, value in row.settings.items()})
    if row.change_record is not None:
        with records:
            _downloads(row)


def _base(row: ModelRow) -> str:
    if row.base_model is not None:
        return f"{escape(row.base_model)}, with what was learned here added to its weights"
    if row.is_phantom:
        return "The phantom model as it is shipped: trained on synthetic films only"
    return "As PEDISCREEN_MODEL names it; nothing was added here"


def _learned_from(data_set: DataSetRow) -> str:
    """Decisions a task and their use, what was left out and why, and the hash that names all of it."""
    parts = [f"{words.counted(data_set.reviews, 'decision')} of readers"]
    for task in Task:
        splits = data_set.counts.get(task.value)
        if isinstance(splits, dict) and sum(splits.values()):
            kept_back = splits.get("test", 0)
            learned = sum(splits.values()) - kept_back
            parts.append(f"{words.TASK[task]}: {learned} to learn from, {kept_back} kept back for the test")
    if replay := sum((data_set.counts.get("replay") or {}).values()):
        parts.append(f"{words.counted(replay, 'case')} it could read already, so that it does not forget them")
    if data_set.left_out:
        reasons = "; ".join(
            f"{count} where {LEFT_OUT_WORDS.get(code, code.replace('_', ' '))}"
            for code, count in sorted(data_set.left_out.items())
        )
        parts.append(f"Left out: {reasons}")
    first, *rest = [escape(part) for part in parts]
    hash_ = f'<span class="hash" title="{data_set.sha256}">data set {data_set.sha256[:8]}</span>'
    return f"{first} {hash_}" + "".join(f"<br>{part}" for part in rest)


def _made(row: ModelRow) -> str:
    parts = []
    if row.retrain_run_id is not None:
        parts.append(f"by retraining {row.retrain_run_id}, started by {row.started_by}, {words.moment(row.created_at)}")
    elif row.folder:
        parts.append(f"registered {words.moment(row.created_at)}")
    if row.code_version:
        parts.append(f"with PediScreen {row.code_version}")
    return escape(words.sentence(", ".join(parts))) + _folder(row)


def _folder(row: ModelRow) -> str:
    if row.folder is None or row.folder_sha256 is None:
        return ""
    return f'<br><span class="hash" title="{row.folder_sha256}">{escape(row.folder)} · {row.folder_sha256[:12]}</span>'


def _judged(row: ModelRow) -> str:
    if row.run_state is RetrainState.HELD and row.run_message:
        return f'<span class="refused">{escape(row.run_message)}</span>'
    reasons = (row.decision or {}).get("reasons") or []
    return "<br>".join(escape(words.sentence(reason)) for reason in reasons)


def _in_use(row: ModelRow, history: list[DeploymentRow]) -> str:
    """Every time it was put in use, the latest first."""
    times = [one for one in history if one.name == row.name]
    if not times:
        return f"As delivered; {words.counted(row.reads, 'read')}" if row.is_configured else "Never so far"
    lines = [
        f"{words.moment(one.at)} by {one.by}, {HOW[one.kind.value]}" + (f": “{one.comment}”" if one.comment else "")
        for one in times
    ]
    return "<br>".join(escape(words.sentence(line)) for line in [*lines, words.counted(row.reads, "read") + " in all"])


HOW = {"promotion": "promoted", "rollback": "by a rollback"}


def figures(decision: dict[str, Any]) -> None:
    """The lines of the gate's table that are about all cases of a task; the change record has the rest."""
    chosen = [one for one in decision.get("figures") or [] if one.get("group") in WHOLE_GROUPS]
    if not chosen:
        return
    rows = "".join(
        f"<tr><td>{escape(words.TASK[Task(one['task'])])}</td><td>{escape(one['group'])}</td>"
        f"<td>{escape(MEASURE.get(one['measure'], one['measure']))}</td>"
        f'<td class="number">{value(one["in_use"], one["unit"])}</td>'
        f'<td class="number">{value(one["candidate"], one["unit"])}</td><td class="number">{one["cases"]}</td></tr>'
        for one in chosen
    )
    st.html(
        '<table class="outcomes"><tr><th>Task</th><th>Cases</th><th>Measure</th><th class="number">Then in use</th>'
        f'<th class="number">This model</th><th class="number">Films</th></tr>{rows}</table>'
    )


def value(figure: float, unit: str) -> str:
    return f"{figure:.0%}" if unit == "share" else f"{figure:.1f} {escape(unit)}"


def _downloads(row: ModelRow) -> None:
    """The change record as it was signed."""
    record = row.change_record
    with st.container(horizontal=True):
        for path, label, mime in (
            (record.with_suffix(".pdf"), "Change record (PDF)", "application/pdf"),
            (record, "Change record (text)", "text/markdown"),
        ):
            if path.is_file():
                st.download_button(
                    label,
                    data=path.read_bytes(),
                    file_name=f"{path.stem}-{row.model_version_id}{path.suffix}",
                    mime=mime,
                    on_click="ignore",
                    key=f"record_{row.model_version_id}_{path.suffix}",
                )
