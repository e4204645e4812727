"""Puts a merged model on the hub, with a model card made from its evaluation.

    python -m training.publish --model D --evaluation R/evaluation.json --repo_id me/name --output_path P --dry_run

`--dry_run` writes what would go to P (README.md, NOTICE, manifest.json with every file's size and sha256) and asks the
hub nothing. Without it the same files are uploaded by huggingface_hub to the hub at HF_ENDPOINT, as a private
repository unless `--public`. A folder with anything that does not belong in a model is refused: images, tables,
pickles, code, links, names or numbers of patients, paths of this machine (training.publish_checks)."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import HfArgumentParser

from engine.errors import PediScreenError
from engine.inference.checkpoint import ReadingCard, fingerprint
from training import model_card
from training.publish_checks import PublishRefused, files_to_publish


@dataclass(frozen=True)
class PublishConfig:
    model: Path = field(metadata={"help": "the folder that radiology_merge made"})
    evaluation: Path = field(metadata={"help": "evaluation.json that evaluate_radiology wrote for this folder"})
    repo_id: str = field(metadata={"help": "owner/name on the hub"})
    output_path: Path | None = field(default=None, metadata={"help": "with --dry_run: where README.md and so on go"})
    dry_run: bool = field(default=False, metadata={"help": "write what would go, upload nothing"})
    public: bool = field(default=False, metadata={"help": "make the repository public (default: private)"})
    terms_accepted: bool = field(
        default=False, metadata={"help": "I have read and keep the terms of the base model's weights (see NOTICE)"}
    )


def main(config: PublishConfig) -> dict[str, Any]:
    """Returns the manifest. Raises PediScreenError before anything is sent."""
    if config.dry_run and config.output_path is None:
        raise PublishRefused("--dry_run needs --output_path.")
    try:
        validate_repo_id(config.repo_id)
    except HFValidationError as error:
        raise PublishRefused(f"repo_id: {error}") from error
    files = files_to_publish(config.model)
    card = ReadingCard(**read_json(config.model / "reading.json"))
    parity = read_json(config.model / "parity.json")
    evaluation = read_json(config.evaluation)
    check_evaluation(evaluation, card, config.model)
    licence = model_card.licence_of(parity.get("base_model", ""), card.is_phantom)
    if licence.needs_acceptance and not (config.terms_accepted or config.dry_run):
        raise PublishRefused(f"Publishing means passing on {licence.name} ({licence.link}): pass --terms_accepted.")
    texts = {
        "README.md": model_card.as_markdown(config.repo_id, card, parity, evaluation, licence),
        "NOTICE": licence.notice,
    }
    manifest = {
        "repo_id": config.repo_id,
        "private": not config.public,
        "licence": licence.name,
        "files": [described(name, path.stat().st_size, sha256_of(path)) for name, path in files.items()]
        + [described(name, len(t.encode()), hashlib.sha256(t.encode()).hexdigest()) for name, t in texts.items()],
    }
    if config.dry_run:
        write_plan(config.output_path, texts, manifest)
    else:
        manifest["url"] = upload(config, files, texts)
    return manifest


def check_evaluation(evaluation: dict[str, Any], card: ReadingCard, model: Path) -> None:
    """Raises PublishRefused for figures of another model, or without figures."""
    version = f"{card.name} ({fingerprint(model)})"
    if evaluation.get("model_version") != version:
        raise PublishRefused(
            f"The evaluation is of {evaluation.get('model_version')}, the folder holds {version}: run "
            "python -m training.evaluate_radiology on this folder."
        )
    if not model_card.tasks_in(evaluation):
        raise PublishRefused("The evaluation has no figures for any task.")
    if evaluation.get("phantom") is True and not card.is_phantom:
        raise PublishRefused("The evaluation is of phantoms; figures for this model need images of patients.")


def write_plan(output_path: Path, texts: dict[str, str], manifest: dict[str, Any]) -> None:
    if output_path.exists() and (not output_path.is_dir() or any(output_path.iterdir())):
        raise PublishRefused(f"{output_path} exists already; choose another output_path or remove it.")
    output_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output_path.name}-", dir=output_path.parent) as work:
        made = Path(work) / "plan"
        made.mkdir()
        for name, text in texts.items():
            (made / name).write_text(text, encoding="utf-8")
        (made / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if output_path.exists():
            output_path.rmdir()
        shutil.move(made, output_path)


def upload(config: PublishConfig, files: dict[str, Path], texts: dict[str, str]) -> str:
    """One commit with exactly the files that were checked. Returns its address."""
    operations = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    operations += [CommitOperationAdd(name, text.encode()) for name, text in texts.items()]
    api = HfApi()
    try:
        api.create_repo(config.repo_id, private=not config.public, exist_ok=True)
        if not api.model_info(config.repo_id).private and not config.public:
            raise PublishRefused(f"{config.repo_id} exists already and is public: pass --public if that is meant.")
        commit = api.create_commit(config.repo_id, operations, commit_message="Model, card and certificate")
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        first = str(error).strip().splitlines()[0].rstrip(".")
        raise PublishRefused(
            f"The hub at {api.endpoint} did not take it: {first}. A token with write access is needed (HF_TOKEN, or hf "
            "auth login)."
        ) from error
    return commit.commit_url


def described(name: str, size: int, sha256: str) -> dict[str, Any]:
    return {"path": name, "bytes": size, "sha256": sha256}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PublishRefused(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise PublishRefused(f"{path} must hold an object.")
    return value


if __name__ == "__main__":
    (config,) = HfArgumentParser(PublishConfig).parse_args_into_dataclasses(look_for_args_file=False)
    try:
        print(json.dumps(main(config), indent=1))
    except PediScreenError as error:
        sys.exit(f"publish: {error}")
