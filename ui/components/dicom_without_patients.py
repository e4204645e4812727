"""The section of the export page that writes DICOM files without their patients."""

from __future__ import annotations

from html import escape

import streamlit as st

from db.types import utc_now
from engine.interop.deidentify import Region
from engine.services import deidentified_export
from engine.services.deidentified_export import CrosswalkWanted, DeidentifiedExport
from engine.settings import settings
from ui import database, state, words
from ui.components import page_parts

MASK_COLUMNS = ("image", "column", "row", "width", "height")


def show(may_export: bool, decided_studies: int) -> None:
    folder = settings().data_dir / "exports"
    left, right = st.columns([1, 1.25], gap="large")
    with left:
        st.html('<div class="block-title"><span>DICOM files without their patients</span></div>')
        has_key = settings().deidentification_key is not None
        page_parts.facts(
            {
                "Written": "one folder a child by pseudonym, one a study; uncompressed DICOM",
                "Stays": "the pixels, sex, age, side, body part, exposure, windows",
                "Changed": "UIDs, and all dates by the same number of days for a child; intervals and ages stay right",
                "Goes": "names, numbers, free text, times of day, private attributes, overlays",
                "Key": "from the configuration: later exports fit to this one"
                if has_key
                else "made for this export, then forgotten: later exports will not fit to it",
                "Folder": str(folder / "dicom"),
            }
        )
        with st.expander("Mask text in the pixels"):
            page_parts.caption(
                "An image whose file does not say that it is free of text is held back. Look at it, and give the "
                "rectangles that cover every text, in pixels from the top left corner; they are set to 0 for good in "
                "what is written."
            )
            rows = st.data_editor(
                [dict.fromkeys(MASK_COLUMNS)],
                column_config={
                    name: st.column_config.NumberColumn(name.capitalize(), min_value=0, step=1) for name in MASK_COLUMNS
                },
                num_rows="dynamic",
                hide_index=True,
                key="dicom_masks",
            )
        with st.expander("Crosswalk"):
            page_parts.caption("Who is who, encrypted and kept apart from the folder. Written only with a passphrase.")
            passphrase = st.text_input("Passphrase", type="password", key="crosswalk_passphrase")
        label = f"Export {words.counted(decided_studies, 'study', 'studies')} as DICOM"
        if st.button(label, disabled=not may_export):
            wanted = None
            if passphrase:
                name = f"crosswalk-{utc_now():%Y%m%d-%H%M%S}.json"
                wanted = CrosswalkWanted(settings().data_dir / "crosswalks" / name, passphrase.encode())
            with st.spinner("Writing and scanning every file"), database.session() as session:
                done = deidentified_export.export_dicom(
                    session,
                    state.current_user(),
                    folder / "dicom",
                    masks=masks_of(rows),
                    wanted_crosswalk=wanted,
                )
            state.set_dicom_export(done)
    with right:
        if done := state.dicom_export():
            written(done)


def masks_of(rows: list[dict[str, int | None]]) -> dict[int, list[Region]]:
    """Of the table's complete rows, by image."""
    masks: dict[int, list[Region]] = {}
    for row in rows:
        values = [row.get(name) for name in MASK_COLUMNS]
        if all(value is not None for value in values):
            image_id, *region = (int(value) for value in values if value is not None)
            masks.setdefault(image_id, []).append(Region(*region))
    return masks


def written(done: DeidentifiedExport) -> None:
    """What is in the folder now, and what was held back and why."""
    images, children = words.counted(done.images, "image"), words.counted(done.patients, "child", "children")
    st.html(
        f'<div class="block-title"><span>Written as DICOM</span></div>'
        f'<div class="answer">{images}<small>of {children}</small></div>'
    )
    if done.is_phantom:
        page_parts.notice(f"Phantom films are among them: {words.NOT_FOR_DIAGNOSIS}.")
    page_parts.caption("Every file was scanned for what its original says of the child; none of it was found.")
    if done.crosswalk:
        page_parts.caption(f"Crosswalk: {done.crosswalk}")
    if done.held_back:
        page_parts.notice(f"{words.counted(len(done.held_back), 'image')} held back, and named in held_back.json")
        with st.expander("Why", expanded=True):
            lines = "".join(
                f"<tr><td>study {one.study_id}, image {one.image_id}</td><td>{escape(one.reason)}</td></tr>"
                for one in done.held_back
            )
            st.html(f'<table class="outcomes">{lines}</table>')
    if done.images:
        st.download_button(
            "Download DICOM as zip",
            data=lambda: page_parts.zipped(done.out_dir),
            file_name="dicom-without-patients.zip",
            mime="application/zip",
            on_click="ignore",
        )
    page_parts.caption(f"Or take the folder: {done.out_dir}")
