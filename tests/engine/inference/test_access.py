"""engine.inference.access: what is missing for a model that is not shipped, said so that a person can mend it."""

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from engine.inference import access


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """No token, no weights, no network."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def by_name(needs):
    return {need.name: need for need in needs}


def test_a_bare_machine_is_told_licence_token_weights_and_memory(bare_machine):
    text = access.explanation(access.MEDGEMMA)
    assert "https://huggingface.co/google/medgemma-4b-it" in text
    assert "Health AI Developer Foundations terms" in text
    assert "HF_TOKEN" in text
    assert "8.6 GB" in text
    assert "NF4" in text
    assert "Traceback" not in text


def test_the_licence_is_unknown_rather_than_missing_when_nobody_can_be_asked(bare_machine):
    needs = by_name(access.requirements(access.MEDGEMMA))
    assert needs["licence"].met is None
    assert needs["token"].met is False
    assert needs["hub"].met is False


def test_weights_already_here_need_neither_hub_nor_licence_page(bare_machine, tmp_path, monkeypatch):
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model-00001-of-00002.safetensors").write_bytes(b"")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda model, name: str(snapshot / name))
    needs = by_name(access.requirements(access.MEDGEMMA, ask_the_hub=False))
    assert needs["weights"].met and needs["licence"].met and needs["hub"].met


def test_a_token_in_the_environment_is_found_and_never_shown(bare_machine, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    text = access.explanation(access.MEDGEMMA)
    assert "token: from HF_TOKEN" in text
    assert "hf_secret" not in text


@pytest.mark.parametrize(
    ("failure", "met", "said"),
    [
        (httpx2.RemoteProtocolError("disconnected"), None, "did not answer"),
        (httpx2.ConnectTimeout("slow"), None, "did not answer"),
        (
            HfHubHTTPError("403", response=httpx2.Response(403, request=httpx2.Request("GET", "http://x"))),
            False,
            "refuses",
        ),
    ],
)
def test_a_hub_that_fails_half_way_is_no_stack_trace(bare_machine, monkeypatch, failure, met, said):
    def auth_check(self, model):
        raise failure

    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    monkeypatch.setattr(access, "_hub_answers", lambda timeout_s: True)
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", auth_check)
    licence = by_name(access.requirements(access.MEDGEMMA))["licence"]
    assert licence.met is met
    assert said in licence.found


def test_only_hub_names_are_hub_names(tmp_path):
    assert access.is_hub_name("google/medgemma-4b-it")
    assert not access.is_hub_name("phantom")
    assert not access.is_hub_name(str(tmp_path))
