"""Step 2 of 4: QLoRA fine-tuning.

    python -m training.train_radiology --data_dir ./pedirad-custom --output_dir ./models/medgemma-4b-radiology
    accelerate launch --multi_gpu --num_processes 4 -m training.train_radiology ...      several GPUs, or CPU processes

Reads the train and val annotations; writes lora/ (the adapter of the best validation), config.json, metrics.jsonl,
TensorBoard events under tensorboard/, and checkpoints while it runs. The same command after a kill goes on from the
last checkpoint. What is wrong with data, model or machine is said before the first step, in one line, with exit status
1, and nothing is left behind.

The base is loaded as a read loads it (NF4 with double quantisation; bf16 on a GPU, float32 on a CPU). The vision tower
is frozen unless --train_vision, so image tokens are computed once (training.image_tokens)."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from peft import LoraConfig, get_peft_model
from tqdm import tqdm
from transformers import HfArgumentParser

from engine.errors import PediScreenError
from engine.findings.answers import Task
from engine.inference.answer_tree import probabilities
from engine.inference.checkpoint import load_reader
from engine.inference.reader import Reader
from training import aimed_lora, image_tokens, memory_preflight, train_checkpoint
from training.adapter import record_base
from training.answer_loss import AnswerLoss
from training.language_pass import answer_gradients, differs_from_library, lean_lora, prepare_layers, unpack
from training.pedirad_loader import LabelledImage, load_split
from training.radiology_processor import (
    Example,
    NotConformant,
    RadiologyProcessor,
    class_of,
    epoch_batches,
    examples_of,
)
from training.train_log import TrainLog
from training.validation import ROWS, Validation

LANGUAGE_LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
VISION_LAYERS = r".*vision_tower.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
SAME_PASS = {torch.float32: 1e-2, torch.bfloat16: 0.5}  # nats between our pass and the library's, at one answer token
SAME_GRADIENT = 0.97  # cosine of the compiled pass's gradient to the plain one's
MAY_CHANGE = {"output_dir", "save_every", "max_steps", "patience"}  # between a run and its continuation


class TrainingRefused(PediScreenError):
    """Why a run does not start."""


@dataclass(frozen=True)
class TrainingConfig:
    data_dir: Path = field(metadata={"help": "a pedirad-custom or pedirad-8k folder"})
    output_dir: Path = field(metadata={"help": "where lora/, config.json, metrics.jsonl and checkpoints go"})
    base_model: str = field(default="phantom", metadata={"help": "phantom, a hub name or a folder"})
    tasks: str = field(default="", metadata={"help": "bone_age,rop,fracture; empty: all that the data hold"})
    epochs: int = field(default=8, metadata={"help": "passes over the training images"})
    max_steps: int = field(default=0, metadata={"help": "stop after so many steps; 0: epochs decide"})
    batch_size: int = field(default=16, metadata={"help": "images a step and process"})
    learning_rate: float = field(default=1e-3, metadata={"help": "AdamW's peak; 2e-4 suits MedGemma"})
    warmup_share: float = field(default=0.05, metadata={"help": "of all steps, before the cosine"})
    weight_decay: float = field(default=0.0, metadata={"help": "of the LoRA weights"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "gradients are clipped to this length"})
    lora_rank: int = field(default=16, metadata={"help": "LoRA r"})
    lora_alpha: int = field(default=16, metadata={"help": "LoRA's scale is alpha / r"})
    train_vision: bool = field(default=False, metadata={"help": "LoRA on the vision tower too; no image token cache"})
    train_language: bool = field(default=True, metadata={"help": "LoRA on the language model"})
    keep_features: float = field(
        default=10.0,
        metadata={"help": "with --train_vision: weight of holding replayed images' tokens where they were"},
    )
    augmented_views: int = field(
        default=4, metadata={"help": "forms of each training image, the plain one counted; replayed ones have one"}
    )
    replay_weight: float = field(default=3.0, metadata={"help": "of a replayed image in the loss; a new one weighs 1"})
    least_ratio: float = field(
        default=10.0,
        metadata={
            "help": "with replayed films: LoRA sees only directions that new films fill so many times as much as they "
            "(training.aimed_lora); 0: it sees all"
        },
    )
    month_loss: str = field(default="path", metadata={"help": "path, tree or hard: see training.answer_loss"})
    month_sd: float = field(default=1.5, metadata={"help": "soft label: SD in months around the label"})
    first_month_sd: float = field(
        default=12.0,
        metadata={"help": "what month_sd begins with: an age that no film has is learnt from its neighbours"},
    )
    class_balance: float = field(default=0.5, metadata={"help": "0: as in the data, 1: every class equally often"})
    eval_every: int = field(default=0, metadata={"help": "steps between validations; 0: every epoch"})
    patience: int = field(default=4, metadata={"help": "validations without gain before it stops"})
    save_every: int = field(default=50, metadata={"help": "steps between checkpoints"})
    memory: str = field(default="auto", metadata={"help": "GPU: auto, small (checkpointed, 12 GB) or large"})
    cache_dir: str = field(default="", metadata={"help": "image tokens; empty: output_dir/image_tokens"})
    seed: int = field(default=0, metadata={"help": "of order, views, drawn months and LoRA's start"})
    smoke_test: bool = field(default=False, metadata={"help": "a few steps on a few images: does everything run?"})

    def as_json(self) -> dict[str, Any]:
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


def main(config: TrainingConfig) -> int:
    state = PartialState(cpu=not torch.cuda.is_available())
    made = not config.output_dir.exists()
    try:
        run(config, state)
    except PediScreenError as refused:
        print(f"train_radiology: {refused}", file=sys.stderr)
        unfinished = config.output_dir.is_dir() and train_checkpoint.latest(config.output_dir) is None
        if made and unfinished and state.is_main_process and not (config.output_dir / "lora").exists():
            shutil.rmtree(config.output_dir)
        return 1
    return 0


def run(config: TrainingConfig, state: PartialState) -> None:
    if (config.output_dir / "lora" / "adapter_config.json").is_file():
        print(f"{config.output_dir}/lora is finished already; choose another --output_dir to train again.")
        return
    check_settings(config)
    check_continuation(config)
    images = load_data(config)
    reader = load_base(config)
    processor = RadiologyProcessor(reader.processor)
    examples = {s: examples_of(processor, labelled) for s, labelled in images.items()}
    loss = AnswerLoss(
        processor, month_loss=config.month_loss, month_sd=config.month_sd, replay_weight=config.replay_weight
    )

    table = processor.conformance(examples["train"])
    if state.is_main_process:
        print(f"One training example as the loss sees it:\n{table}")
        for line in describe(config, examples, reader):
            print(line)
    views = shown_views(config, examples)
    count = len(views) if config.train_vision else sum(map(len, views))
    check_space(config, image_tokens.bytes_needed(reader, count, 1, live=config.train_vision))
    config.output_dir.mkdir(parents=True, exist_ok=True)
    tokens = compute_tokens(config, reader, [i.path for s in ("train", "val") for i in images[s]], views, state)
    examples["val"] = [replace(e, image=e.image + len(images["train"])) for e in examples["val"]]
    examples["train"] = taught_by_base(reader, loss, examples["train"], tokens, with_features=config.train_vision)
    network = add_lora(config, reader)
    plan = plan_memory(config, network, examples["train"])
    aim_lora(config, state, network, processor, examples["train"], tokens)
    optimizer = torch.optim.AdamW(
        train_checkpoint.trained_parameters(network).values(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    check_pass(processor, network, examples["train"], tokens)
    prepare(plan, network, processor, examples["train"], tokens)
    train(config, state, network, optimizer, loss, processor, examples, tokens)


# --- before the first step ---


def check_settings(config: TrainingConfig) -> None:
    wrong = [t for t in config.tasks.split(",") if t and t not in list(Task)]
    if wrong:
        raise TrainingRefused(f"--tasks {wrong[0]!r} is not one of {', '.join(Task)}.")
    if config.month_loss not in ("path", "tree", "hard"):
        raise TrainingRefused(f"--month_loss must be path, tree or hard, found {config.month_loss!r}.")
    if config.memory not in ("auto", "small", "large"):
        raise TrainingRefused(f"--memory must be auto, small or large, found {config.memory!r}.")
    if not config.replay_weight > 0:
        raise TrainingRefused(f"--replay_weight must be above 0, found {config.replay_weight}.")
    for name in ("month_sd", "first_month_sd"):
        if not getattr(config, name) > 0:
            raise TrainingRefused(f"--{name} must be above 0 months, found {getattr(config, name)}.")
    for name in ("batch_size", "epochs", "augmented_views", "lora_rank", "save_every"):
        if getattr(config, name) < 1:
            raise TrainingRefused(f"--{name} must be at least 1, found {getattr(config, name)}.")
    if not (config.train_language or config.train_vision):
        raise TrainingRefused("--train_language False needs --train_vision True, or there is nothing to train.")
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise TrainingRefused(
            f"{torch.cuda.get_device_name()} has no bf16 (compute capability 8.0 or newer has). Set "
            "CUDA_VISIBLE_DEVICES= to train on the CPU in float32."
        )
    if not config.data_dir.is_dir():
        raise TrainingRefused(f"There is no data folder {config.data_dir}.")


def check_continuation(config: TrainingConfig) -> None:
    file = config.output_dir / "config.json"
    if not file.is_file():
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    changed = [k for k, v in config.as_json().items() if k not in MAY_CHANGE and before.get(k) != v]
    if changed:
        name = changed[0]
        raise TrainingRefused(
            f"{config.output_dir} holds a run with other settings ({name} was {before.get(name)!r}, now "
            f"{config.as_json()[name]!r}); repeat them or choose another --output_dir."
        )


def load_data(config: TrainingConfig) -> dict[str, list[LabelledImage]]:
    tasks = tuple(Task(t) for t in config.tasks.split(",") if t) or tuple(Task)
    found = {split: load_split(config.data_dir, split, tasks) for split in ("train", "val")}
    for split, labelled in found.items():
        if not labelled:
            raise TrainingRefused(f"{config.data_dir} has no {split} images of {', '.join(tasks)}.")
    if config.smoke_test:
        found = {
            s: [i for t in tasks for i in [j for j in labelled if j.annotation.task is t][:4]]
            for s, labelled in found.items()
        }
    trained = {i.annotation.task for i in found["train"]}
    for task in {i.annotation.task for i in found["val"]} - trained:
        raise TrainingRefused(f"val has {task} images but train has none; add some or pass --tasks.")
    for task in trained - {i.annotation.task for i in found["val"]}:
        raise TrainingRefused(
            f"train has {task} images but val has none to watch the run by; add some or pass --tasks."
        )
    return found


def absent_classes(examples: dict[str, list[Example]]) -> list[str]:
    """Classes of one split that the other lacks, in words. Not for bone age, where neighbours stand in."""
    seen = {s: {(e.task, class_of(e.answer)) for e in es if e.task is not Task.BONE_AGE} for s, es in examples.items()}
    untaught = [
        f"{t} {c} is in val but not in train: it cannot be learnt" for t, c in sorted(seen["val"] - seen["train"])
    ]
    return untaught + [
        f"{t} {c} is in train but not in val: no figure for it" for t, c in sorted(seen["train"] - seen["val"])
    ]


def load_base(config: TrainingConfig) -> Reader:
    reader = load_reader(config.base_model, None, gated=False)
    reader.network.requires_grad_(False)
    return reader


@torch.no_grad()
def taught_by_base(
    reader: Reader, loss: AnswerLoss, examples: list[Example], tokens, *, with_features: bool
) -> list[Example]:
    """The examples, those replayed with what the model says of them before any training, and how it sees them."""
    taught = list(examples)
    for task in Task:
        replayed = [k for k, e in enumerate(examples) if e.replay and e.task is task]
        for start in range(0, len(replayed), ROWS):
            part = replayed[start : start + ROWS]
            features = tokens.stack([examples[k].image for k in part], [0] * len(part), reader.network.device)
            p = probabilities(reader.network, loss.trees[task], [examples[k].prompt for k in part], features)
            for k, said, seen in zip(part, p.cpu().numpy(), features.cpu(), strict=True):
                taught[k] = replace(examples[k], taught=said, features=seen if with_features else None)
    return taught


def describe(config: TrainingConfig, examples: dict[str, list[Example]], reader: Reader) -> list[str]:
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    lines = [f"{reader.model_version} in {reader.network.dtype}, on {place}"]
    for split, es in examples.items():
        counts = Counter(f"{e.task.value}{' replayed' * e.replay}" for e in es)
        lines.append(f"{split}: " + ", ".join(f"{n} {t}" for t, n in sorted(counts.items())))
    return lines + [f"warning: {line}" for line in absent_classes(examples)]


def check_space(config: TrainingConfig, token_bytes: int) -> None:
    folder = Path(config.cache_dir) if config.cache_dir else config.output_dir
    while not folder.exists():
        folder = folder.parent
    needed, free = token_bytes + 600e6, shutil.disk_usage(folder).free
    if needed > free:
        raise TrainingRefused(
            f"{folder} has {free / 1e9:.1f} GB left; image tokens and checkpoints need {needed / 1e9:.1f} GB. "
            "Free some, lower --augmented_views, or set --cache_dir elsewhere."
        )


def shown_views(config: TrainingConfig, examples: dict[str, list[Example]]) -> list[tuple[int, ...]]:
    """Which forms of every image are computed. A replayed one has a single form, augmented as often as the new ones
    are: it only has to hold its answer, and being augmented must not tell new from known."""
    forms = range(config.augmented_views)
    return [(i % len(forms),) if e.replay else tuple(forms) for i, e in enumerate(examples["train"])] + [
        (0,) for _ in examples["val"]
    ]


def compute_tokens(config, reader, paths, views, state: PartialState):
    """ImageTokens, or LiveTokens where the tower is trained."""
    cache = Path(config.cache_dir) if config.cache_dir else config.output_dir / "image_tokens"
    name = "images" if config.train_vision else "image tokens"
    with tqdm(total=len(paths), desc=name, unit="image", disable=not state.is_main_process) as bar:
        more = {"progress": bar.update, "share": (state.process_index, state.num_processes)}
        if config.train_vision:
            tokens = image_tokens.keep_pixels(reader, paths, cache, **more)
        else:
            tokens = image_tokens.compute(reader, paths, views, cache, **more)
    state.wait_for_everyone()
    return tokens


def add_lora(config: TrainingConfig, reader: Reader):
    torch.manual_seed(config.seed)
    layers = "|".join([LANGUAGE_LAYERS] * config.train_language + [VISION_LAYERS] * config.train_vision)
    lora = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=layers, task_type="CAUSAL_LM")
    network = get_peft_model(reader.network, lora)
    network.peft_config["default"].base_model_name_or_path = config.base_model  # PEFT notes this machine's folder
    return network


def aim_lora(config, state, network, processor: RadiologyProcessor, examples: list[Example], tokens) -> None:
    """Only with replayed and new films, and not where a trained tower would move what was measured."""
    if not config.least_ratio or config.train_vision or len({e.replay for e in examples}) < 2:
        return
    base = network.get_base_model()
    rows = [(i, v) for v in range(config.augmented_views) for i, e in enumerate(examples) if v == 0 or not e.replay]
    parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]

    def passes():
        for part in tqdm(parts, desc="where the new films differ", unit="batch", disable=not state.is_main_process):
            batch = processor.collate([examples[i] for i, _ in part])
            yield batch, tokens.stack([e.image for e in batch.examples], [view for _, view in part], base.device)

    found = aimed_lora.aim(base, passes(), least_ratio=config.least_ratio)
    if state.is_main_process and found:
        print(f"LoRA sees {found} directions in which the new films stand out; lora_A is set to them and not trained.")
    elif state.is_main_process:
        print(
            f"warning: in no direction do the new films stand out {config.least_ratio:g} times from the replayed ones. "
            "LoRA sees all, and what it learns may change the answers on known films too."
        )


def check_pass(processor: RadiologyProcessor, network, examples: list[Example], tokens) -> None:
    """Raises NotConformant if the training pass does not say what the library's own forward pass says."""
    some = list({e.task: e for e in examples}.values())
    base = network.get_base_model().eval()
    features = tokens.stack([e.image for e in some], [0] * len(some), base.device)
    apart = differs_from_library(base, processor.collate(some), features)
    if not apart < SAME_PASS[base.dtype]:
        raise NotConformant(f"the training pass and the library's differ by {apart:.3f} nats at an answer token")


def plan_memory(config: TrainingConfig, network, examples: list[Example]) -> memory_preflight.Plan:
    """How a step fits the memory. Raises TrainingRefused with the batch that would fit."""
    base = network.get_base_model()
    on_gpu = base.device.type == "cuda"
    if on_gpu and not config.train_vision:
        base.model.vision_tower = None  # its tokens are computed
        torch.cuda.empty_cache()
    plan = memory_preflight.plan(
        base,
        config.batch_size,
        max(len(e) for e in examples),
        config.memory if on_gpu else "cpu",
        vision=config.train_vision,
    )
    if plan.refusal:
        raise TrainingRefused(plan.refusal)
    print(plan.text)
    return plan


def prepare(
    plan: memory_preflight.Plan, network, processor: RadiologyProcessor, examples: list[Example], tokens
) -> None:
    """Fits the pass to the machine."""
    base = network.get_base_model()
    if base.device.type != "cuda":
        if plan.unpacked:
            unpack(base)
            lean_lora(base)
        return
    batch = processor.collate(examples[:1])
    plain = answer_gradients(base, batch, tokens.stack([examples[0].image], [0], base.device))
    if plan.unpacked:
        unpack(base)
    lean_lora(base)
    prepare_layers(base, compiled=True, checkpointed=plan.checkpointed)
    compiled = answer_gradients(base, batch, tokens.stack([examples[0].image], [0], base.device))
    alike = torch.cosine_similarity(plain, compiled, dim=0).item()
    if not alike > SAME_GRADIENT:
        print(f"warning: torch.compile changes the gradients here (cosine {alike:.3f}); training without it.")
        prepare_layers(base, compiled=False, checkpointed=plan.checkpointed)


# --- the loop ---


def train(config, state, network, optimizer, loss, processor, examples, tokens) -> None:
    base = network.get_base_model()
    batches_an_epoch = len(plan_epoch(config, state, examples["train"], 0))
    total = config.epochs * batches_an_epoch
    total = min(total, config.max_steps) if config.max_steps else total
    total = min(total, 4) if config.smoke_test else total
    eval_every = min(config.eval_every or batches_an_epoch, total)
    validation = Validation(base, loss, examples["val"], tokens)

    step, best, stale, seen = 0, None, 0, None
    found = train_checkpoint.latest(config.output_dir)
    if found:
        seen = train_checkpoint.load(found, network, optimizer)
        step, best, stale = seen["step"], seen["best"], seen["stale"]
        if state.is_main_process:
            print(f"Going on from step {step}.")
    log = TrainLog(config.output_dir, config.as_json(), step, writes=state.is_main_process)
    if not found:
        figures = validation()
        log.write(step, figures, "val")
        best = figures | {"step": 0}
        if state.is_main_process:
            keep_best(config, network)
    start = time.time()
    with tqdm(total=total, initial=step, desc="training", unit="step", disable=not state.is_main_process) as bar:
        while step < total and stale < config.patience:
            epoch, place = divmod(step, batches_an_epoch)
            rows = plan_epoch(config, state, examples["train"], epoch)[place]
            set_rate(optimizer, config, step, total)
            value = train_step(
                config, state, network, optimizer, loss, processor, tokens, examples["train"], rows, step, total
            )
            step += 1
            log.write(step, {"loss": value, "lr": optimizer.param_groups[0]["lr"]}, "train")
            bar.update(1)
            bar.set_postfix(loss=f"{value:.3f}", best=best["score"])
            if step % eval_every == 0 or step == total:
                figures = validation()
                log.write(step, figures, "val")
                if figures["score"] < best["score"]:
                    best, stale = figures | {"step": step}, 0
                    if state.is_main_process:
                        keep_best(config, network)
                else:
                    stale += 1
            if state.is_main_process and (step % config.save_every == 0 or step == total):
                train_checkpoint.save(config.output_dir, step, network, optimizer, {"best": best, "stale": stale})
    state.wait_for_everyone()
    if state.is_main_process:
        finish(config, best, step, time.time() - start)
    log.close()


def plan_epoch(config, state: PartialState, examples: list[Example], epoch: int) -> list[list[int]]:
    """Global batches of an epoch: batch_size rows for every process."""
    size = min(config.batch_size * state.num_processes, len(examples))
    return epoch_batches(examples, size, seed=config.seed, epoch=epoch, balance=config.class_balance)


def train_step(config, state, network, optimizer, loss, processor, tokens, examples, rows, step, total) -> float:
    """One step over the global batch `rows`; this process takes every num_processes-th row. Returns the mean loss."""
    rng = np.random.default_rng([config.seed, 7, step])
    month_sd = config.first_month_sd + (config.month_sd - config.first_month_sd) * step / total
    fed, targets = loss.draw([examples[i] for i in rows], rng, month_sd)
    views = rng.integers(0, config.augmented_views, len(rows)).tolist()
    views = [0 if e.replay else v for e, v in zip(fed, views, strict=True)]
    mine = slice(state.process_index, None, state.num_processes)
    network.train()
    base = network.get_base_model()
    batch = processor.collate(fed[mine])
    features = tokens.stack([e.image for e in batch.examples], views[mine], base.device)
    value = loss(base, batch, targets[mine], features) * len(batch.examples) / len(rows)
    value = value + config.keep_features * moved(batch.examples, features) / len(rows)
    value.backward()
    trained = list(train_checkpoint.trained_parameters(network).values())
    value = value.detach()
    if state.num_processes > 1:
        flat = torch.cat([value.reshape(1), *(p.grad.reshape(-1) for p in trained)])
        torch.distributed.all_reduce(flat)
        value, gradients = flat[0], flat[1:].split([p.numel() for p in trained])
        for p, g in zip(trained, gradients, strict=True):
            p.grad.copy_(g.view_as(p))
    torch.nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return value.item()


def moved(examples: list[Example], features: torch.Tensor) -> torch.Tensor:
    """How far the tokens of replayed images are from where they were: squared distance over squared length, summed."""
    kept = [i for i, e in enumerate(examples) if e.features is not None]
    if not kept:
        return torch.zeros((), device=features.device)
    before = torch.stack([examples[i].features for i in kept]).to(features.device).float()
    apart = (features[kept].float() - before).square().mean((1, 2))
    return (apart / before.square().mean((1, 2))).sum()


def set_rate(optimizer: torch.optim.Optimizer, config: TrainingConfig, step: int, total: int) -> None:
    warmup = max(1, round(config.warmup_share * total))
    cosine = 0.5 * (1 + np.cos(np.pi * step / total))
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * float(cosine))


def keep_best(config: TrainingConfig, network) -> None:
    """The adapter of the best validation so far, in a folder of its own until the run is over."""
    unfinished = config.output_dir / "best.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    network.save_pretrained(unfinished, save_embedding_layers=False)  # or PEFT asks the hub for the base
    record_base(unfinished, config.base_model)
    best = config.output_dir / "best"
    shutil.rmtree(best, ignore_errors=True)
    unfinished.rename(best)


def finish(config: TrainingConfig, best: dict[str, Any], step: int, seconds: float) -> None:
    (config.output_dir / "best").rename(config.output_dir / "lora")
    for folder in config.output_dir.glob(f"{train_checkpoint.PREFIX}*"):
        shutil.rmtree(folder)
    print(f"{config.output_dir}/lora: step {best['step']} of {step}, {seconds:.0f} s; validation {json.dumps(best)}")
    if best["step"] == 0:
        print("warning: no step read the val split better than the model did before training; lora/ changes nothing.")


if __name__ == "__main__":
    (settings,) = HfArgumentParser(TrainingConfig).parse_args_into_dataclasses(look_for_args_file=False)
    sys.exit(main(settings))
