"""What the project brings along may be used, is pinned, and is listed."""

from __future__ import annotations

import json
import re

import pytest
from packaging.utils import canonicalize_name

from tests.supply_chain import LOCK, PAGE, direct_requirements, is_permissive, run_time_dependencies

SBOM = LOCK.with_name("sbom.cdx.json")


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))


def test_no_dependency_is_under_gpl_or_of_unknown_licence() -> None:
    refused = [one for one in run_time_dependencies() if not one.is_allowed]
    assert refused == [], "neither permissive nor reviewed in tests/supply_chain.py"


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("MIT AND PSF-2.0", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("LGPL-3.0-only", False),
        ("GPL-2.0-only OR AGPL-3.0-only", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_how_licences_are_judged(licence: str, allowed: bool) -> None:
    assert is_permissive(licence) is allowed


def test_every_dependency_is_on_the_licence_page() -> None:
    """`python -m tests.supply_chain > docs/licences.md` writes it anew."""
    listed = re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    assert {(one.name, one.licence) for one in run_time_dependencies()} <= {(name, said) for name, said in listed}


def test_the_lock_pins_what_pyproject_pins_and_hashes_everything() -> None:
    pinned = locked()
    for requirement in direct_requirements():
        (wanted,) = requirement.specifier
        found = pinned[canonicalize_name(requirement.name)].split("+")[0]
        assert (requirement.name, found) == (requirement.name, wanted.version)
    text = LOCK.read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    unhashed = [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry]
    assert unhashed == []
    assert "://" not in text and "file:" not in text
    assert {one.name for one in run_time_dependencies()} <= set(pinned)


def test_the_bill_of_materials_lists_what_the_lock_pins() -> None:
    text = SBOM.read_text()
    bill = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    components = {canonicalize_name(one["name"]): one["version"] for one in bill["components"]}
    assert components == locked()
    assert all(one.get("purl", "").startswith("pkg:pypi/") for one in bill["components"])
    assert "file:" not in text
