"""`pediscreen export-dicom` and `pediscreen crosswalk`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from engine import cli
from engine.deidentify_command import parsed_masks
from engine.errors import Refused
from engine.interop.deidentify import Region
from tests.workstation import case_adder


def test_chosen_studies_are_exported_and_the_crosswalk_opens(
    session: Session, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add = case_adder(session, tmp_path)
    clean, with_text = add(PatientID="87305551"), add(BurnedInAnnotation="YES")
    key_file, out, who = tmp_path / "key", tmp_path / "out", tmp_path / "who.json"
    key_file.write_text("a secret of some length\n")
    studies = ["--study", str(clean.study_id), "--study", str(with_text.study_id)]
    command = ["export-dicom", str(out), *studies, "--crosswalk", str(who), "--json"]
    assert cli.main(command) == 1  # no secret
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no_secret"
    assert cli.main([*command, "--key-file", str(key_file)]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["images"], result["held_back"][0]["code"]) == (1, "burned_in_annotation")
    assert f"held back: image {with_text.image_id}" in said.err
    assert "PEDISCREEN_DEIDENTIFICATION_KEY is not set" in said.err
    assert cli.main(["crosswalk", str(who), "--key-file", str(key_file)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["patient_id"] == "87305551"

    mask = ["--mask", f"{with_text.image_id}:0,0,50,20"]
    assert cli.main(["export-dicom", str(out), *studies, *mask, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["masked"] == 1


def test_masks_are_read_and_anything_else_is_refused() -> None:
    assert parsed_masks(["17:0,0,400,60", "17:5,6,7,8", "3: 1, 2, 3, 4"]) == {
        17: [Region(0, 0, 400, 60), Region(5, 6, 7, 8)],
        3: [Region(1, 2, 3, 4)],
    }
    for text in ("17", "17:0,0,400", "a:1,2,3,4", "17:0,0,-4,60"):
        with pytest.raises(Refused, match="IMAGE:COLUMN,ROW"):
            parsed_masks([text])
