"""After `pediscreen up`, with nothing configured: a token by the command line, a read by curl's words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from engine.phantoms.write import make_phantoms
from engine.settings import PROJECT_DIR
from tests.pediscreen_up import pediscreen_up

READS_WITHIN_S = 180  # the model is loaded meanwhile


@pytest.mark.slow
def test_a_program_has_a_film_read(data_dir: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(PROJECT_DIR)}
    films = {
        "bone-age": make_phantoms(tmp_path / "hand", "hand", 1, 71)[0],
        "rop": make_phantoms(tmp_path / "fundus", "fundus", 1, 71)[0],
        "fracture": make_phantoms(tmp_path / "wrist", "wrist", 1, 71)[0],
    }
    with pediscreen_up(environment) as address:
        command = [sys.executable, "-m", "engine.cli", "token", "add", "RIS", "--json"]
        made = subprocess.run(command, cwd=PROJECT_DIR, env=environment, capture_output=True, text=True, check=True)
        head = {"Authorization": f"Bearer {json.loads(made.stdout)['secret']}"}
        for task, film in films.items():
            read = _read(f"{address}/api/radiology/analyze-{task}", film.path, head)
            assert (read["abstained"], read["is_phantom"], read["image_is_phantom"]) == (False, True, True)
            assert read["answer"]["task"] == film.answer["task"]


def _read(url: str, film: Path, head: dict[str, str]) -> dict:
    """Asks as long as it is told to come back."""
    deadline = time.monotonic() + READS_WITHIN_S
    while True:
        answer = httpx.post(url, files={"image": film.read_bytes()}, headers=head, timeout=120)
        if answer.status_code == 503 and time.monotonic() < deadline:
            time.sleep(float(answer.headers["retry-after"]))
            continue
        assert answer.status_code == 200, answer.text
        return answer.json()
