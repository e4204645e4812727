from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from db.models import RetrainRun, RetrainState
from db.repositories import retrain
from engine.promotion_gate import Decision, Figure
from engine.services import lineage, registry
from engine.services.accounts import demo_admin
from tests.model_folders import change_record, register
from tests.ui.reading_pages import everything_said

ADMIN = demo_admin()
FIGURE = Figure(
    "bone_age", "locked test", "error", "months", 80, 70, 14.2, 7.9, -6.3, -8.1, -4.6, 0.95, "better", None, True
)


def script(row, history):
    from ui.components import model_lineage

    model_lineage.show(row, history)


def test_a_model_is_followed_back_to_the_decisions_it_learned_from(session: Session, data_dir: Path) -> None:
    counts = {"bone_age": {"train": 200, "val": 30, "test": 60}, "rop": {"train": 0}, "replay": {"rop": 50}}
    data_set = retrain.add_data_set(session, "ab" * 32, counts, {"readers_differ": 3}, [])
    run = RetrainRun(state=RetrainState.AWAITING_SIGNATURE, started_by="chief", data_set_fk=data_set.id)
    subgroup = Figure(**asdict(FIGURE) | {"group": "girls", "in_use": 99.0})
    run.decision = Decision(True, ["bone age: error down"], [FIGURE, subgroup], []).as_json()
    session.add(run)
    session.commit()
    made = register(
        session,
        data_dir,
        "phantom 0.3 + abababab",
        retrain_run_id=run.id,
        data_set_id=data_set.id,
        base_model="phantom 0.3",
        code_version="0.5.0 (1234567)",
        settings={"epochs": 8},
    )
    registry.promote(
        session, ADMIN, made.model_version_id, change_record=change_record(data_dir), comment="<b>better</b>"
    )
    (row,) = lineage.models(session, ADMIN)
    history = lineage.deployments(session, ADMIN)
    at = AppTest.from_function(script, kwargs={"row": row, "history": history}, default_timeout=30).run()
    said = everything_said(at)
    for part in (
        "Base phantom 0.3, with what was learned here",
        "data set abababab",
        "Bone age: 230 to learn from, 60 kept back for the test",
        "50 cases it could read already",
        "Left out: 3 where two readers differ",
        f"By retraining {run.id}, started by chief",
        "with PediScreen 0.5.0 (1234567)",
        "Bone age: error down",
        "by demo-admin, promoted: “<b>better</b>”",
        "14.2 months 7.9 months 80",
    ):
        assert part in said
    assert "ROP:" not in said and "99.0" not in said  # a task without cases; a subgroup
    assert any("&lt;b&gt;" in html.proto.body for html in at.get("html"))
