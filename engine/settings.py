"""Where things are, read from the environment once. Secrets come from the environment only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent
PHANTOM_MODEL_DIR = PROJECT_DIR / "engine" / "phantoms" / "model"
PHANTOM_MODEL = "phantom"


def model_dir(model: str) -> Path:
    """Where a model given as "phantom" or as a folder lies; for a hub name a folder that is not there."""
    return PHANTOM_MODEL_DIR if model == PHANTOM_MODEL else Path(model)


@dataclass(frozen=True)
class Settings:
    data_dir: Path  # image files by hash, derived pixels, the default database, job state
    database_url: str
    jobs_url: str  # DBOS system database
    model: str  # "phantom", a hub name such as google/medgemma-4b-it, or a folder
    lora_adapter_path: Path | None
    port: int


@cache
def settings() -> Settings:
    """The settings of this process. Tests that change the environment call `settings.cache_clear()`."""
    env = os.environ
    data_dir = Path(env.get("PEDISCREEN_DATA_DIR", PROJECT_DIR / "data")).resolve()
    adapter = env.get("LORA_ADAPTER_PATH")
    return Settings(
        data_dir=data_dir,
        database_url=env.get("PEDISCREEN_DATABASE_URL", f"sqlite:///{data_dir / 'pediscreen.sqlite'}"),
        jobs_url=env.get("PEDISCREEN_JOBS_URL", f"sqlite:///{data_dir / 'jobs.sqlite'}"),
        model=env.get("PEDISCREEN_MODEL", PHANTOM_MODEL),
        lora_adapter_path=Path(adapter) if adapter else None,
        port=int(env.get("PEDISCREEN_PORT", "8501")),
    )
