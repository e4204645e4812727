"""Independent judges of DICOM files: dciodvfy (dicom3tools) and dsrdump (dcmtk)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def dciodvfy_errors(path: Path) -> list[str]:
    """What breaks the standard, by dciodvfy; its exit status says the same."""
    judged = _run("dciodvfy", "dicom3tools", str(path))
    errors = [line for line in (judged.stdout + judged.stderr).splitlines() if line.startswith("Error")]
    assert bool(errors) == (judged.returncode != 0), judged.stderr
    return errors


def dsrdump(path: Path) -> str:
    """The report as dcmtk reads it: long values in full, codes with their meaning."""
    read = _run("dsrdump", "dcmtk", "+Pl", "+Pu", str(path))
    assert read.returncode == 0, read.stderr
    return read.stdout


def _run(program: str, package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(program) is None:
        missing = f"{program} is not installed (apt-get install {package})"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return subprocess.run([program, *arguments], capture_output=True, text=True, errors="replace", check=False)
