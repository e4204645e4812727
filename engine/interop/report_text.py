"""A signed study in words, the same in every document."""

from __future__ import annotations

from dataclasses import dataclass

from engine.findings import additions, bone_age
from engine.findings.age import months_words
from engine.findings.answers import Task
from engine.findings.bone_age import BoneAgeSds
from engine.findings.reference import Refusal
from engine.imaging.film import REPORT_MANUFACTURER
from engine.interop.codes import coded
from engine.interop.signed_study import ModelRead, SignedImage, SignedStudy

PRODUCT = REPORT_MANUFACTURER
NOT_FOR_DIAGNOSIS = "Phantom: not for diagnostic use"
NO_ORGANIZATION = "organization not stated"
TITLES = {
    Task.BONE_AGE: "Bone age",
    Task.ROP: "Retinopathy of prematurity",
    Task.FRACTURE: "Wrist fracture",
    None: "Image review",
}
SIDES = {"L": "left", "R": "right", None: "side not stated"}
BODY_PARTS = {Task.BONE_AGE: "hand", Task.ROP: "eye", Task.FRACTURE: "wrist", None: "image"}


@dataclass(frozen=True)
class BoneAgeFacts:
    """What stands beside a bone age; None: not known, or no table reaches it (`why_no_sd`)."""

    months: int
    age_months: float | None
    sds: BoneAgeSds | None
    why_no_sd: str | None


def bone_age_facts(study: SignedStudy, image: SignedImage) -> BoneAgeFacts:
    """Of an image with a bone age."""
    assert image.answer is not None
    months = int(image.answer["bone_age_months"])
    found = bone_age.bone_age_sds(months, study.age_months, study.patient.sex)
    if isinstance(found, Refusal):
        return BoneAgeFacts(months, study.age_months, None, found.reason)
    return BoneAgeFacts(months, study.age_months, found, None)


def sd_source(sds: BoneAgeSds) -> str:
    unverified = " (unverified)" if sds.source.unverified else ""
    between = ", between two rows of the table" if sds.interpolated else ""
    return f"{sds.table_name}{unverified}{between}"


def place_words(study: SignedStudy, image: SignedImage) -> str:
    """ "left hand", "right eye", "wrist, side not stated"."""
    part = BODY_PARTS[study.task]
    return f"{SIDES[image.laterality]} {part}" if image.laterality else f"{part}, {SIDES[None]}"


def finding_words(study: SignedStudy, image: SignedImage) -> str:
    """ "9 y 6 m (114 months)", "zone II, stage 2, no plus", "not assessable: poor quality"."""
    if study.is_withdrawn:
        return "withdrawn: nothing is said of this image at present"
    if image.answer is None:
        reason = coded(f"reject_reason.{image.reject_reason}").text if image.reject_reason else "no reason given"
        return f"not assessable: {_lower(reason)}"
    said = additions.words(image.answer, image.additions)
    if study.task == Task.BONE_AGE:
        months = int(image.answer["bone_age_months"])
        said = f"{months_words(months)} ({months} months){said.removeprefix(months_words(months))}"
    return said


def read_words(image: SignedImage) -> str | None:
    """What the model read, and what the reader did with it."""
    read = image.read
    if read is None:
        return None
    if read.answer is None:
        return f"{model_words(read)} gave no read"
    did = "confirmed" if image.is_confirmed else "not assessed" if image.answer is None else "corrected"
    said = additions.words(read.answer, {})
    if "bone_age_months" in read.answer:
        said = f"{said} ({read.answer['bone_age_months']} months)"
    return f"{model_words(read)} read {said}: {did} by the reader"


def model_words(read: ModelRead) -> str:
    return read.model_version + (" (phantom model, not for diagnostic use)" if read.is_phantom else "")


def conclusion(study: SignedStudy) -> str:
    """One line an image."""
    lines = [NOT_FOR_DIAGNOSIS + "."] if study.is_phantom else []
    if study.is_withdrawn:
        return " ".join([*lines, "Report withdrawn: it no longer holds, and nothing takes its place yet."])
    lines += [f"{place_words(study, image).capitalize()}: {finding_words(study, image)}." for image in study.images]
    return "\n".join(lines)


def version_words(study: SignedStudy) -> str:
    """ "version 2, replaces version 1"."""
    replaces = f", replaces version {study.replaced_revision}" if study.replaced_revision else ""
    return f"version {study.revision}{replaces}"


def plain(text: str) -> str:
    """Without control characters, line breaks left as they are."""
    return "".join(char for char in text if char in "\n\t" or ord(char) >= 32 and ord(char) != 127).strip()


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
