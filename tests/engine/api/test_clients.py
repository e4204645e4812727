"""The TypeScript client and the React hook: the same as the API's description, compiled by tsc, and run by Node against
the API."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from engine.api.app import api
from engine.api.clients import generate
from engine.phantoms.write import make_phantoms
from tests.api_process import api_process, new_token, reads_behind_it

CLIENTS = generate.HERE
PROGRAMS = Path(__file__).parent / "clients"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pediscreen"
COMPILED = ("pediscreen.ts", "useMedGemmaRadiology.ts")


def test_the_client_is_what_the_description_says() -> None:
    written = generate.client(api.openapi())
    assert generate.CLIENT.read_text() == written, "run: python -m engine.api.clients.generate"


def test_a_new_route_or_field_would_show() -> None:
    """The test above can fail: a client of another description differs."""
    changed = json.loads(json.dumps(api.openapi()))
    changed["components"]["schemas"]["QueueRow"]["properties"]["room"] = {"type": "string"}
    changed["paths"]["/radiology/rooms"] = {"get": {**changed["paths"]["/health"]["get"], "operationId": "rooms"}}
    written = generate.client(changed)
    assert "  room?: string;" in written and "rooms(options: Options = {}): Promise<Health>" in written
    assert written != generate.CLIENT.read_text()


def test_every_route_and_field_is_in_the_client() -> None:
    """By another way than the generator's own."""
    text = generate.CLIENT.read_text()
    for path, methods in api.openapi()["paths"].items():
        if not path.startswith("/dicom-web"):
            address = path.replace("{study_id}", "${encodeURIComponent(study_id)}")
            for method in methods:
                assert f'"{method.upper()}", `{address}`' in text, path
    for name in ("StudyOut", "ImageOut", "ReadOut", "QueueRow", "AnalysisOut", "ReviewIn", "Details"):
        declared = text[text.index(f"export interface {name} {{") :]
        declared = declared[: declared.index("\n}")]
        for field in api.openapi()["components"]["schemas"][name]["properties"]:
            assert f"\n  {field}:" in declared or f"\n  {field}?:" in declared, (name, field)


@pytest.fixture(scope="module")
def packages() -> Path:
    """TypeScript and React as package-lock.json has them, installed once into the user's cache."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            _not_here(f"{program} is not installed (make test does it)")
    lock = (CLIENTS / "package-lock.json").read_bytes()
    folder = CACHE / f"npm-{hashlib.sha256(lock).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(CLIENTS / name, folder / name)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                _not_here(f"npm could not install TypeScript: {done.stderr[-500:]}")
            (folder / "complete").touch()
    return folder / "node_modules"


def _not_here(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def compiled(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clients and the programs that use them, as JavaScript; tsc has nothing to say about them."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "node_modules").symlink_to(packages)
    for source in [*(CLIENTS / name for name in (*COMPILED, "tsconfig.json", "package.json")), *PROGRAMS.glob("*.ts")]:
        shutil.copy(source, folder)
    command = ["node", str(packages / "typescript" / "bin" / "tsc"), "--outDir", "built"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return folder / "built"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    [made] = make_phantoms(tmp_path / "films", "hand", 1, 5)
    return made.path


Node = Callable[[str, Path], dict]


@pytest.fixture
def node(compiled: Path, session: Session, tmp_path: Path) -> Iterator[Node]:
    """`node("live", film)`: what the program printed, run against the API with a token of its own."""
    with reads_behind_it() as door, api_process(tmp_path, **door) as address:

        def run(program: str, film: Path) -> dict:
            command = ["node", str(compiled / f"{program}.js"), address, new_token(program), str(film)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout.splitlines()[-1])

        yield run


def test_node_uploads_looks_reads_and_decides(node: Node, film: Path, session: Session) -> None:
    from engine.imaging.load import load_film

    found = node("live", film)
    pixels = load_film(film).pixels
    assert found["outcomes"] == ["accepted", "accepted"]  # the second by its key
    assert found["queued"] == [1] and found["size"] == list(pixels.shape)
    assert (found["pixelCount"], found["pixelSum"]) == (pixels.size, int(pixels.sum()))
    assert found["read"]["answer"]["task"] == "bone_age" and found["read"]["model"] == "fake 1"
    assert found["read"]["sex"] == found["sex"] in ("M", "F") and found["read"]["phantom"] is True
    assert found["review"] == {"review_id": 1}
    [decided] = found["decided"]
    assert decided == {
        "verdict": "corrected",
        "answer": {"task": "bone_age", "bone_age_months": 114},
        "details": {"method": "atlas", "regions": [{"x0": 1, "y0": 2, "x1": 30, "y1": 40}]},
    }
    assert (found["status"], found["health"]) == ("reviewed", "ok")
    missing, nobody, no_image, aborted = found["refused"]
    assert (missing["name"], missing["status"], missing["code"]) == ("PediScreenError", 404, "not_found")
    assert missing["message"] == "there is no study 4711" and missing["hasId"]
    assert (nobody["status"], nobody["code"]) == (401, "not_signed_in")
    assert (no_image["status"], no_image["code"]) == (422, "none_accepted")
    assert aborted["name"] == "AbortError"


def test_the_hook_goes_from_image_to_read_and_says_why_not(node: Node, film: Path) -> None:
    found = node("hook", film)

    def path(name: str) -> list[str]:
        return [state["status"] for state in found[name]]

    assert path("read") == ["idle", "reading", "done"]
    assert found["read"][-1]["said"]["task"] == "bone_age"
    assert path("refused") == ["idle", "reading", "failed"]
    assert (found["refused"][-1]["said"], found["refused"][-1]["canRetry"]) == ("unknown_format", False)
    assert path("replaced")[-1] == "done" and found["replaced"][-1]["said"]["task"] == "fracture"
    assert not [state for state in found["replaced"] if state["said"] and state["said"]["task"] == "bone_age"]
    assert path("forgotten")[-1] == "idle" and "done" not in path("forgotten")
    assert (found["away"][-1]["said"], found["away"][-1]["canRetry"]) == ("no_connection", True)
