"""What `pediscreen export-dicom` and `pediscreen crosswalk` do."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from db.session import session_scope
from engine.errors import Refused
from engine.interop import crosswalk
from engine.interop.deidentify import Region
from engine.services.accounts import command_line
from engine.services.deidentified_export import CrosswalkWanted, export_dicom

MASK = re.compile(r"(\d+):(\d+),(\d+),(\d+),(\d+)")
PASSPHRASE = "PEDISCREEN_CROSSWALK_PASSPHRASE"


def exported(
    database_url: str, arguments: argparse.Namespace, say: Callable[[str], None]
) -> tuple[dict[str, Any], str]:
    """The result for --json and as text. Raises what export_dicom raises."""
    masks = parsed_masks(arguments.mask)
    wanted = CrosswalkWanted(arguments.crosswalk, _secret(arguments.key_file)) if arguments.crosswalk else None
    with session_scope(database_url) as session:
        done = export_dicom(
            session,
            command_line(),
            arguments.out_dir,
            study_ids=arguments.study,
            masks=masks,
            wanted_crosswalk=wanted,
        )
    for one in done.held_back:
        say(f"held back: image {one.image_id} of study {one.study_id}: {one.reason}")
    if done.is_phantom:
        say("The export holds phantom images: not for diagnostic use.")
    if not done.is_key_kept:
        say("PEDISCREEN_DEIDENTIFICATION_KEY is not set: no later export will have the same UIDs and dates.")
    text = f"{done.images} images of {done.patients} patients in {done.out_dir}; {len(done.held_back)} held back"
    return asdict(done), text


def crosswalk_rows(path: Path, key_file: Path | None) -> list[dict[str, Any]]:
    """Raises Refused: no_secret, not_a_crosswalk, wrong_secret."""
    return crosswalk.read(path, _secret(key_file))


def parsed_masks(texts: Sequence[str]) -> dict[int, list[Region]]:
    """From "IMAGE:COLUMN,ROW,WIDTH,HEIGHT". Raises Refused("bad_mask")."""
    masks: dict[int, list[Region]] = {}
    for text in texts:
        match = MASK.fullmatch(text.replace(" ", ""))
        if match is None:
            raise Refused(
                "bad_mask", f"A mask is IMAGE:COLUMN,ROW,WIDTH,HEIGHT in pixels, as 17:0,0,400,60; found {text!r}."
            )
        image_id, *region = (int(number) for number in match.groups())
        masks.setdefault(image_id, []).append(Region(*region))
    return masks


def _secret(key_file: Path | None) -> bytes:
    secret = key_file.read_bytes().strip() if key_file else os.environ.get(PASSPHRASE, "").encode()
    if not secret:
        raise Refused("no_secret", f"A crosswalk is encrypted: give --key-file, or set {PASSPHRASE}.")
    return secret
