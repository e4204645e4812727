"""The run-time dependencies and their licences, as installed.

python -m tests.supply_chain > docs/licences.md"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT_DIR = Path(__file__).resolve().parent.parent
LOCK = PROJECT_DIR / "docs" / "supply-chain" / "requirements.txt"
PAGE = PROJECT_DIR / "docs" / "licences.md"

# SPDX names of what a run-time dependency may be under without a review of its own.
PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
# How metadata of before SPDX write them. "BSD License" does not say which of the BSD licences; each is permissive.
SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
# Not permissive, or not said by the package's metadata: looked at by hand, and why it may be here.
REVIEWED = {
    "certifi": ("MPL-2.0", "a list of certificates, unmodified; copyleft of its own files only"),
    "psycopg": ("LGPL-3.0-only", "PostgreSQL's driver, brought by DBOS; unmodified, imported, replaceable by its user"),
    "psycopg-binary": ("LGPL-3.0-only", "the same, compiled"),
    "tqdm": ("MPL-2.0 AND MIT", "unmodified; copyleft of its own files only"),
}
# What compiled wheels carry within; from the licence files that they come with.
CARRIED = {
    "numpy": "libgfortran and libquadmath (GPL-3.0 WITH GCC-exception-3.1, LGPL-2.1)",
    "opencv-python-headless": "FFmpeg (LGPL-2.1), not used here",
    "scikit-learn": "libgomp (GPL-3.0 WITH GCC-exception-3.1)",
    "scipy": "libgfortran and libquadmath (GPL-3.0 WITH GCC-exception-3.1, LGPL-2.1)",
}


@dataclass(frozen=True)
class Dependency:
    name: str
    licence: str | None  # SPDX; None: nobody knows
    is_allowed: bool
    remark: str


def run_time_dependencies() -> list[Dependency]:
    """Those of pyproject.toml and all that they bring, as installed here, by name."""
    waiting = direct_requirements()
    extras_of: dict[str, set[str]] = {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in extras_of and requirement.extras <= extras_of[name]:
            continue
        extras = extras_of.setdefault(name, set())
        extras |= requirement.extras
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append(needed)
    return [_dependency(name) for name in sorted(extras_of)]


def direct_requirements() -> list[Requirement]:
    project = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project["dependencies"]]


def _dependency(name: str) -> Dependency:
    stated = stated_licence(distribution(name))
    if name in REVIEWED:
        licence, remark = REVIEWED[name]
        return Dependency(name, licence, stated in (None, licence), remark)  # a changed licence is reviewed again
    return Dependency(name, stated, stated is not None and is_permissive(stated), CARRIED.get(name, ""))


def stated_licence(package: Distribution) -> str | None:
    """As the package's metadata say: an SPDX expression, classifiers, or a short text."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    stated = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    stated = [name for name in stated if name != "OSI Approved"]
    text = (metadata.get("License") or "").strip()
    if not stated and 0 < len(text) < 60:
        stated = [text]
    return " AND ".join(sorted({SPELLINGS.get(name, name) for name in stated})) or None


def is_permissive(licence: str) -> bool:
    """Every part of an AND, and at least one of an OR."""
    return all(
        any(one.strip("() ") in PERMISSIVE for one in part.split(" OR ")) for part in re.split(r" AND ", licence)
    )


def page() -> str:
    dependencies = run_time_dependencies()
    rows = "\n".join(f"| {one.name} | {one.licence or 'unknown'} | {one.remark} |" for one in dependencies)
    return f"""# Licences of the run-time dependencies

Written by `python -m tests.supply_chain > docs/licences.md` from the metadata of what is installed; do not edit. A test
fails when a dependency is under GPL or AGPL, when its licence is unknown, or when it is neither permissive nor
reviewed. The project itself is Apache-2.0. Tools of developers and tests are not listed: nothing of them is shipped or
needed to run.

"BSD License" without a number is shown as BSD-3-Clause. The last column says why what is not permissive may be here,
and what a compiled package carries within.

{len(dependencies)} packages:

| package | licence | |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    print(page(), end="")
