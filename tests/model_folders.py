"""Folders that look like models from outside, registered and signed, for tests that load none."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy.orm import Session

from engine.services import registry
from engine.services.accounts import demo_admin, service_actor
from engine.services.registry import Deployed


def write_model_folder(data_dir: Path, name: str) -> Path:
    """Where a run leaves a merged model."""
    folder = data_dir / "retrain" / name / "merged"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "reading.json").write_text(json.dumps({"name": name, "is_phantom": True}))
    (folder / "model.safetensors").write_bytes(name.encode())
    return folder


def change_record(data_dir: Path) -> Path:
    path = data_dir / "retrain" / "change-record.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("signed")
    return path


def register(session: Session, data_dir: Path, name: str, **lineage) -> Deployed:
    return registry.add_candidate(session, service_actor("worker"), write_model_folder(data_dir, name), **lineage)


def promote(session: Session, data_dir: Path, model: Deployed) -> None:
    registry.promote(session, demo_admin(), model.model_version_id, change_record=change_record(data_dir))
