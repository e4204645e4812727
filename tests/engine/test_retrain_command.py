"""`pediscreen retrain`: what it says while it follows a run, and how it ends."""

import json
import threading
import time
from types import SimpleNamespace

import pytest

from db.models import RetrainStep
from db.session import session_scope
from engine import cli, retrain_command
from engine.services import retrain_run, training_set
from engine.services.accounts import service_actor
from tests.fake_retraining import fake_retraining


@pytest.fixture
def a_worker(database_url, monkeypatch):
    """Takes up the run that waits, in a thread."""
    preview = SimpleNamespace(enough=True, why_not=None, estimate_minutes=6.0)
    monkeypatch.setattr(training_set, "preview", lambda session, actor: preview)
    monkeypatch.setattr(retrain_command, "LOOK_EVERY_S", 0.1)
    retraining = fake_retraining(database_url, threading.Event())

    def work():
        runs = []
        while not runs:
            time.sleep(0.1)
            with session_scope(database_url) as session:
                runs = retrain_run.waiting_runs(session, service_actor("worker"))
        for step in RetrainStep:
            if not retraining.perform(runs[0], step):
                break

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def test_a_run_is_followed_to_its_verdict(a_worker, capsys):
    assert cli.main(["retrain", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["state"] == "awaiting_signature"
    assert found["decision"]["promote"] is True
    assert set(found["seconds"]) == {"snapshot", "train", "merge", "evaluate", "gate"}
    assert "No worker is running; the run waits" in err
    assert "evaluate:" in err


def test_a_run_that_fails_is_exit_status_1_with_the_sentence(a_worker, capsys, monkeypatch):
    monkeypatch.setenv("FAKE_FAIL", "train")
    assert cli.main(["retrain"]) == 1
    assert "The train found something wrong. The model in use was not touched." in capsys.readouterr().out


def test_with_nothing_to_learn_from_it_is_refused(database_url, capsys):
    assert cli.main(["retrain"]) == 1
    assert "At least 30 of one task are needed" in capsys.readouterr().err
