"""What an export that was killed leaves behind, and what becomes of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.services.annotation_folder import FORMAT, whole_or_not_at_all, write_json
from engine.settings import PROJECT_DIR

ABOUT = "export.json"
UNDER_WAY = f"""
import os, sys
from pathlib import Path
from engine.services import annotation_folder
out, moment = Path(sys.argv[1]), sys.argv[2]
if moment == "between the renames":
    rename = os.rename
    def and_wait(source, target):
        rename(source, target)
        print("ready", flush=True)
        sys.stdin.readline()
    os.rename = and_wait
with annotation_folder.whole_or_not_at_all(out, {ABOUT!r}) as unfinished:
    (unfinished / "half").write_text("")
    if moment == "writing":
        print("ready", flush=True)
        sys.stdin.readline()
"""


@contextmanager
def export_under_way(out: Path, moment: str) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", UNDER_WAY, str(out), moment]
    process = subprocess.Popen(
        command, cwd=PROJECT_DIR, env=os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def export_to(out: Path, said: str) -> None:
    with whole_or_not_at_all(out, ABOUT) as unfinished:
        write_json(unfinished / ABOUT, {**FORMAT, "said": said})


def test_what_a_killed_export_left_goes_with_the_next_one(tmp_path: Path) -> None:
    with export_under_way(tmp_path / "killed", "writing"):
        pass
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".unfinished"]
    export_to(tmp_path / "next", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["next"]


def test_an_export_that_is_under_way_is_left_alone(tmp_path: Path) -> None:
    with export_under_way(tmp_path / "slow", "writing") as process:
        export_to(tmp_path / "next", "new")
        process.communicate("\n")
        assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["next", "slow"]


def test_an_earlier_export_comes_back_to_its_place(tmp_path: Path) -> None:
    """Killed in the moment in which the earlier one had gone and the new one had not come."""
    export_to(tmp_path / "out", "earlier")
    with export_under_way(tmp_path / "out", "between the renames"):
        pass
    assert not (tmp_path / "out").exists()
    export_to(tmp_path / "another", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "out"]
    assert "earlier" in (tmp_path / "out" / ABOUT).read_text()


def test_a_lock_of_somebody_else_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / ".~document.lock").write_text("")
    with pytest.raises(ZeroDivisionError), whole_or_not_at_all(tmp_path / "out", ABOUT):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == [".~document.lock"]
