"""Which code this is: the commit where there is a repository, else the version of the package."""

from __future__ import annotations

import subprocess
import tomllib
from functools import cache

from engine.settings import PROJECT_DIR


@cache
def code_version() -> str:
    """Such as "0.3.0 (97889ad)", with a + after the commit where files were changed since."""
    try:
        version = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    except OSError:
        from importlib.metadata import version as installed

        return installed("pediscreen")
    if not (PROJECT_DIR / ".git").exists():
        return version
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = "+" if _git("status", "--porcelain", "--untracked-files=no") else ""
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version} ({commit}{changed})"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT_DIR), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
