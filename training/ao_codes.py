"""GRAZPEDWRI-DX's fracture columns as this workstation's three classes.

Sources
    Nagy et al., A pediatric wrist trauma X-ray dataset (GRAZPEDWRI-DX) for machine learning, Sci Data 2022;9:222:
    `ao_classification` is of the examination (several codes are separated by ";"), `fracture_visible` of the image
    AO Pediatric Comprehensive Classification of Long Bone Fractures (Slongo & Audige, J Orthop Trauma 2007;21 and
    2018;32 supplements): 23r is the distal radius, 23u the distal ulna, 23 both; M/3 is a complete metaphyseal
    fracture, E/1 to E/4 are Salter-Harris I to IV, and M/2 is an incomplete metaphyseal fracture

M/2 holds buckle (torus) and greenstick fractures under one code, and the two are treated differently: a buckle is
stable, a greenstick is not (engine.findings.fracture). So M/2 gives no label unless the user says what it may be."""

from __future__ import annotations

import re

from engine.findings.answers import Fracture

COMPLETE = re.compile(r"23r?-(M/3(\.\d)?|E/[1-4](\.\d)?)")  # of the radius
INCOMPLETE = re.compile(r"23r?-M/2(\.\d)?")  # of the radius
MINOR_BESIDE_INCOMPLETE = re.compile(r"23u-(M/2(\.\d)?|E/7(\.\d)?)")  # incomplete or styloid avulsion of the ulna


class Unclear(ValueError):
    """Why an image gets none of the three classes."""


def fracture_class(
    ao_classification: str, *, visible: bool, uncertain: bool, cast: bool, metal: bool, incomplete_as: Fracture | None
) -> Fracture:
    """`incomplete_as`: what 23r-M/2 is to be called, None where the user has not said. Raises Unclear."""
    codes = [code.strip() for code in ao_classification.split(";") if code.strip()]
    if uncertain:
        raise Unclear("diagnosis_uncertain is set: the readers were not sure")
    if not codes:
        if visible:
            raise Unclear("a fracture is visible, but there is no AO code to say which")
        if cast or metal:
            raise Unclear("no fracture, but cast or metal: this may be a treated one")
        return Fracture.NORMAL
    shown = "; ".join(codes)
    if not visible:
        raise Unclear(f"the examination has {shown}, but fracture_visible is not set for this image")
    if any(COMPLETE.fullmatch(code) for code in codes):
        return Fracture.DISTAL_RADIUS
    incomplete = [code for code in codes if INCOMPLETE.fullmatch(code)]
    if not incomplete:
        raise Unclear(f"{shown} is no fracture of the distal radius")
    if not all(INCOMPLETE.fullmatch(code) or MINOR_BESIDE_INCOMPLETE.fullmatch(code) for code in codes):
        raise Unclear(f"{shown}: another fracture beside an incomplete one of the radius")
    if incomplete_as is None:
        raise Unclear(f"{shown} may be a buckle or a greenstick fracture; --graz_incomplete_as says which to call it")
    return incomplete_as
