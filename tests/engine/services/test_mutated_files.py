"""Damaged and hostile files end as a row, never as an exception; the long run is tests/benchmarks/mutated_files.py."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from engine.services.accounts import service_actor
from engine.services.ingest import PatientEntry, ingest_file
from tests.benchmarks.mutated_files import TYPED
from tests.mutations import BOMBS, Original, mutated, originals

COUNT = 140


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Original]:
    return originals(tmp_path_factory.mktemp("originals"), with_foreign_files=False)


def test_every_mutated_file_is_taken_in_or_refused_with_a_known_code(
    session: Session, data_dir: Path, tmp_path: Path, files: list[Original]
) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(COUNT):
        what, data = mutated(files, seed)
        if what.startswith("bomb"):
            continue
        path = tmp_path / f"{seed}"
        path.write_bytes(data)
        result = ingest_file(session, service_actor("test"), path, path.name, entry=PatientEntry(patient_id=f"M{seed}"))
        assert result.outcome == "accepted" or result.reason_code in TYPED, (seed, what, result)
        outcomes[result.outcome] += 1
    assert outcomes["accepted"] >= 20 and outcomes["quarantined"] >= 20, outcomes
    assert list((data_dir / "incoming").iterdir()) == []


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__.strip("_"))
def test_a_bomb_is_refused(
    session: Session, data_dir: Path, tmp_path: Path, bomb: Callable[[random.Random], bytes]
) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(bomb(random.Random(1)))
    result = ingest_file(session, service_actor("test"), path, path.name, entry=PatientEntry(patient_id="M1"))
    assert result.reason_code in TYPED


def test_the_same_seed_gives_the_same_file(files: list[Original]) -> None:
    assert [mutated(files, seed) for seed in range(5)] == [mutated(files, seed) for seed in range(5)]
    assert len({mutated(files, seed)[1] for seed in range(30)}) == 30
