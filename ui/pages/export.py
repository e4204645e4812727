"""Decided cases as training annotations, and as DICOM files without their patients: what would be written, the writing,
and what was."""

from __future__ import annotations

from html import escape

import streamlit as st

from db.models import Role, StudyStatus
from engine.findings.answers import Task
from engine.services import export, worklist
from engine.services.export import ExportSummary
from engine.settings import settings
from ui import database, errors, state, words
from ui.components import dicom_without_patients, page_parts

SPLITS = ("train", "val", "test")


@errors.shown()
def show() -> None:
    page_parts.title("Export", "Decided cases, as annotations that training reads or as DICOM without their patients")
    with database.session() as session:
        overview = worklist.overview(session, state.current_user())
    reviewed = overview.by_status.get(StudyStatus.REVIEWED, 0)
    if not reviewed:
        page_parts.empty(
            "Nothing to export yet", "Confirm or correct cases on the review page; their answers are exported here."
        )
        return
    out_dir = settings().data_dir / "exports" / "pedirad-custom"
    left, right = st.columns([1, 1.25], gap="large")
    with left:
        waiting = overview.by_status.get(StudyStatus.AWAITING_REVIEW, 0)
        page_parts.facts(
            {
                "Decided": words.counted(reviewed, "study", "studies"),
                "Not decided yet": f"{words.counted(waiting, 'study', 'studies')}, left out",
                "Written": "one folder a task; train, val and test split by patient; one annotation an image",
                "Images": "8-bit PNG, as the model sees them before its resize",
                "Each record": "the reader's answer, the read and its model version, reader and child by pseudonym",
                "Folder": str(out_dir),
            }
        )
        seed = st.number_input("Seed of the split", 0, 2**31 - 1, value=0, step=1, width=180)
        may_export = state.current_user().role is Role.ADMIN
        if not may_export:
            page_parts.notice("This folder leaves the workstation, so an administrator exports: switch the user above.")
        label = f"Export {words.counted(reviewed, 'study', 'studies')}"
        if st.button(label, type="primary", disabled=not may_export):
            with st.spinner("Writing annotations and images"), database.session() as session:
                summary = export.export_annotations(session, state.current_user(), out_dir, seed=seed)
            state.set_export_summary(summary)
    with right:
        if summary := state.export_summary():
            written(summary)
    st.divider()
    dicom_without_patients.show(may_export, reviewed)


def written(summary: ExportSummary) -> None:
    """What is in the folder now, and what was left out and why."""
    images, children = words.counted(summary.images, "image"), words.counted(summary.patients, "child", "children")
    st.html(
        f'<div class="block-title"><span>Written</span></div>'
        f'<div class="answer">{images}<small>of {children}</small></div>'
    )
    if summary.is_phantom:
        page_parts.notice(f"Phantom films or reads are among them: {words.NOT_FOR_DIAGNOSIS}. Every record says so.")
    for warning in summary.warnings:
        page_parts.notice(warning)
    heads = "".join(f'<th class="number">{split}</th>' for split in SPLITS)
    rows = "".join(
        f"<tr><td>{words.TASK[Task(task)]}</td>"
        + "".join(f'<td class="number">{splits.get(split, 0)}</td>' for split in SPLITS)
        + "</tr>"
        for task, splits in summary.counts.items()
    )
    st.html(f'<table class="outcomes"><tr><th></th>{heads}</tr>{rows}</table>')
    decisions = words.counted(summary.reader_reads, "decision")
    page_parts.caption(f"{decisions} of every reader, superseded ones too, in {export.READER_READS_FILE}")
    if summary.left_out:
        with st.expander(f"{words.counted(len(summary.left_out), 'image')} left out"):
            lines = "".join(
                f"<tr><td>study {one.study_id}, image {one.image_id}</td><td>{escape(one.reason)}</td></tr>"
                for one in summary.left_out
            )
            st.html(f'<table class="outcomes">{lines}</table>')
    st.download_button(
        "Download as zip",
        data=lambda: page_parts.zipped(summary.out_dir),
        file_name="pedirad-custom.zip",
        mime="application/zip",
        on_click="ignore",
    )
    page_parts.caption(f"Or take the folder: {summary.out_dir}")


show()
