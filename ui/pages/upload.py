"""Films come in by the browser: several at once, each with its own outcome."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import streamlit as st

from engine.errors import PediScreenError
from engine.findings.answers import Task
from engine.services import ingest
from engine.services.ingest import IngestResult, PatientEntry
from ui import database, errors, state, words
from ui.components import case_table, page_parts
from ui.components.case_table import Column, Line

PHOTO_ENDINGS = (".png", ".jpg", ".jpeg")
OUTCOME = {"accepted": "On the worklist", "duplicate": "Already here", "quarantined": "Refused"}
COLUMNS = [
    Column("file", "File", "27%"),
    Column("outcome", "Outcome", "13%"),
    Column("exam", "Examination", "11%"),
    Column("remark", "What to know", "49%"),
]


@errors.shown()
def show() -> None:
    page_parts.title(
        "Upload", "DICOM, PNG or JPEG. Nothing is lost: what is refused goes to quarantine with its reason."
    )
    files = st.file_uploader(
        "Films",
        accept_multiple_files=True,
        key=f"upload_{state.upload_round()}",
        label_visibility="collapsed",
    )
    if files:
        photos = sum(file.name.lower().endswith(PHOTO_ENDINGS) for file in files)
        entry, task = patient_entry(photos)
        if st.button(f"Add {words.counted(len(files), 'file')}", type="primary"):
            take_in(files, entry, task)
            state.next_upload_round()
            st.rerun()
    elif not state.upload_results():
        page_parts.empty(
            "Nothing uploaded yet", "Drop films above, or send a folder with <code>pediscreen ingest FOLDER</code>."
        )
    if state.upload_results():
        outcomes(state.upload_results())


def patient_entry(photos: int) -> tuple[PatientEntry, Task | None]:
    """What the files themselves may not say. It never overrides what they do say."""
    title = "About the child, where the file does not say it"
    with st.expander(title, expanded=photos > 0):
        if photos:
            page_parts.notice(
                f"{words.counted(photos, 'file')} without tags (PNG, JPEG): a patient ID is needed. "
                "All files of this upload get what is entered here."
            )
        first, second = st.columns(4), st.columns(4)
        with first[0]:
            patient_id = st.text_input("Patient ID", max_chars=128)
        with first[1]:
            sex = st.segmented_control("Sex", list(words.CHILD), format_func=words.CHILD.get, width="stretch")
        with first[2]:
            birth_date = st.date_input(
                "Birth date", value=None, min_value=date(1990, 1, 1), max_value=date.today(), format="DD/MM/YYYY"
            )
        with first[3]:
            acquired_on = st.date_input(
                "Acquired on", value=None, min_value=date(1990, 1, 1), max_value=date.today(), format="DD/MM/YYYY"
            )
        with second[0]:
            task = st.segmented_control("Shows", list(Task), format_func=words.BODY_PART.get, width="stretch")
        with second[1]:
            laterality = st.segmented_control("Side", list(words.SIDE), format_func=words.SIDE.get, width="stretch")
        with second[2]:
            site = st.text_input("Site", max_chars=128)
    entry = PatientEntry(patient_id.strip() or None, sex, birth_date, acquired_on, laterality, site.strip() or None)
    return entry, task


def take_in(files: list, entry: PatientEntry, task: Task | None) -> None:
    """One file after the other; a failure of one does not stop the rest."""
    progress = st.progress(0.0)
    results = state.upload_results()
    with tempfile.TemporaryDirectory(prefix="pediscreen-upload-") as folder, database.session() as session:
        for number, file in enumerate(files):
            progress.progress(number / len(files), f"{number + 1} of {len(files)}: {file.name}")
            path = Path(folder) / str(number)  # never the sender's name
            path.write_bytes(file.getbuffer())
            try:
                result = ingest.ingest_file(session, state.current_user(), path, file.name, entry=entry, task=task)
            except PediScreenError as error:
                session.rollback()
                result = IngestResult("quarantined", file.name, "", reason_code="not_taken", reason=str(error))
            results.insert(0, result)
            path.unlink()
    progress.empty()


def outcomes(results: list[IngestResult]) -> None:
    """The files of this session, the latest first. A line opens the case, or the quarantine."""
    refused = sum(result.outcome == "quarantined" for result in results)
    accepted = sum(result.outcome == "accepted" for result in results)
    page_parts.caption(
        f"{words.counted(accepted, 'film')} on the worklist, {refused} refused, {len(results) - accepted - refused} "
        "already here. Choose a line to open it."
    )
    clicked = case_table.show(
        COLUMNS,
        [_line(number, result) for number, result in enumerate(results)],
        label="Uploaded files",
        key="upload_outcomes",
        height="calc(100dvh - 24rem)",
    )
    if clicked.open is not None:
        result = results[clicked.open]
        if result.study_id is not None:
            state.open_study(result.study_id)
        st.switch_page(state.QUARANTINE)


def _line(number: int, result: IngestResult) -> Line:
    tone = {"accepted": "accent", "duplicate": "quiet", "quarantined": "soon"}[result.outcome]
    remark = result.reason or "; ".join(result.warnings)
    return Line(
        id=number,
        label=f"{result.file_name}: {OUTCOME[result.outcome]}",
        cells={
            "file": result.file_name,
            "outcome": {"text": OUTCOME[result.outcome], "tone": tone},
            "exam": words.BODY_PART.get(result.task) if result.study_id else None,
            "remark": {"text": remark, "tone": "quiet"} if remark else None,
        },
    )


show()
