"""The receiver killed while films are sent (the long version is tests/benchmarks/receive_kills.py)."""

import random

import pytest

from engine.settings import settings
from tests.benchmarks import receive_kills
from tests.engine.interop.conftest import dcmtk


@pytest.mark.slow
@pytest.mark.parametrize("run", ["sqlite:receiver", "postgresql:receiver,database"])
def test_kills_lose_and_double_nothing(run, tmp_path, data_dir, monkeypatch):
    dcmtk("storescu")
    for name in ("PEDISCREEN_DICOM_PORT", "PEDISCREEN_DICOM_SENDERS", "PEDISCREEN_DATABASE_URL"):
        monkeypatch.setenv(name, "")  # what the run sets is taken back after the test
        monkeypatch.delenv(name)
    films = receive_kills.small_films(tmp_path / "films", 24)
    found = receive_kills.one_run(films, run, 4, random.Random(1), tmp_path / "run")
    settings.cache_clear()
    assert found["problems"] == []
    assert found["attempts"] > len(films), "no kill met a film"
