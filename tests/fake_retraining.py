"""Retraining with fake steps, and a snapshot of nothing, for tests of what runs them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

from db.models import RetrainStep, Split
from db.repositories import retrain
from db.session import writing
from engine.inference.model_folder import sha256_of
from engine.jobs.retrain import Retraining
from engine.services import audit

MODULES = dict.fromkeys((RetrainStep.TRAIN, RetrainStep.MERGE, RetrainStep.EVALUATE), "tests.fake_training")


def fake_retraining(database_url, stopping) -> Retraining:
    return Retraining(database_url, stopping, modules=MODULES, snapshot=fake_snapshot)


def fake_snapshot(session, actor, out_dir: Path, *, progress) -> SimpleNamespace:
    for done in range(4):
        time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
        progress(done, 4)
    (out_dir / "bone_age").mkdir(parents=True)
    sha256 = sha256_of(out_dir)
    with writing(session):
        data_set = retrain.data_set_by_sha256(session, sha256)
        if data_set is None:
            data_set = retrain.add_data_set(session, sha256, {"bone_age": {Split.TRAIN: 40}}, {"rejected": 2}, [])
            detail = {"sha256": data_set.sha256} | audit.fixed(data_set)
            audit.record(session, actor, "data_set.written", f"data_set:{data_set.id}", detail)
        return SimpleNamespace(data_set_id=data_set.id)
