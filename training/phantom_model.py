"""The phantom model: a small Gemma3ForConditionalGeneration that reads phantoms.

    python -m training.phantom_tokenizer --output_dir engine/phantoms/model
    python -m training.phantom_model --output_dir engine/phantoms/model          (one GPU, 16 CPU cores, 10 minutes)
    python -m training.phantom_gate --model engine/phantoms/model                (abstention; any CPU, minutes)

Two stages, because a tiny model does not learn to read an image from the text loss alone. First the vision tower and
projector learn from direct heads (bone age as a distribution, every centre's maturity, zone, stage, plus, fracture,
view); then all weights learn to write answers, scored exactly as a read scores them. In the second half of stage two
every linear layer computes with its NF4-rounded weights, so that the 4-bit model is the one that was trained.
Phantoms are drawn by worker processes while the GPU trains."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the drawing processes are the parallelism

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    AutoProcessor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    HfArgumentParser,
    SiglipVisionConfig,
)

from engine.findings.answers import ALLOWED, MAX_BONE_AGE_MONTHS, Fracture, Plus, Stage, Task, View, Zone
from engine.inference.answer_tree import AnswerTree, log_probabilities
from engine.inference.prompts import TRIAGE, prompt_ids
from engine.inference.read import ReadContext
from engine.phantoms.centres import centres
from training.phantom_stream import CENTRES, SEXES, VIEWS, FilmStore, PhantomStream, to_model_pixels
from training.phantom_tokenizer import IMAGE_SIZE, IMAGE_TOKENS

# Look of a radiograph: what stands in its image tokens beside the anatomy, as so many units of the token's RMS along a
# direction of its own. A film of another hospital can then be told from the known ones, and an adapter can use it.
BANDING_PER_GREY_LEVEL, GROWTH_ARREST = 0.5, 4.0
LOOKS = 2
MONTHS = torch.arange(MAX_BONE_AGE_MONTHS + 1).float()


@dataclass(frozen=True)
class PhantomModelConfig:
    output_dir: Path = field(metadata={"help": "a folder with the processor; the model is written beside it"})
    init_from: Path | None = field(default=None, metadata={"help": "go on from this model instead of from scratch"})
    vision_seconds: float = field(default=380.0, metadata={"help": "stage one: direct heads"})
    language_seconds: float = field(default=120.0, metadata={"help": "stage two: answers"})
    learning_rate: float = field(default=1e-3, metadata={"help": "AdamW's peak, both stages"})
    muon_learning_rate: float = field(default=0.02, metadata={"help": "Muon's peak on the vision layers, stage one"})
    batch: str = field(default="192,80,80,32", metadata={"help": "hands, fundi, wrists, others in a step"})
    store: str = field(default="200000,60000,80000,12000", metadata={"help": "images of each kept on the device"})
    workers: int = field(default=15, metadata={"help": "drawing processes"})
    validation_count: int = field(default=600, metadata={"help": "phantoms a view to watch the run by"})
    month_sd: float = field(default=1.5, metadata={"help": "soft label: SD of the target distribution over months"})
    seed: int = field(default=0, metadata={"help": "of weights, order and phantoms"})


def main(config: PhantomModelConfig) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{config} on {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}", flush=True)
    torch.manual_seed(config.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    counts = {v: int(n) for v, n in zip(VIEWS, config.batch.split(","), strict=True)}
    capacity = {v: int(n) for v, n in zip(VIEWS, config.store.split(","), strict=True)}
    stream = DataLoader(
        PhantomStream(config.seed, counts), batch_size=None, num_workers=config.workers, prefetch_factor=4
    )
    store = FilmStore(capacity, device)
    store.fill_from(stream)

    processor = AutoProcessor.from_pretrained(config.output_dir)
    model = build_model(processor, config.init_from).to(device)
    heads = Heads(model.config.text_config.hidden_size).to(device)
    if config.init_from:
        heads.load_state_dict(load_file(config.init_from / "heads.safetensors", device=str(device)))
    validation = store.validation_set(config.validation_count, config.workers)
    store.wait_for(min(4000, capacity[View.HAND]))

    start = time.time()
    train_vision(model, heads, store, counts, config, validation)
    train_language(model, heads, processor, store, counts, config, validation)
    model.to(torch.bfloat16).save_pretrained(config.output_dir)
    save_file(heads.state_dict(), config.output_dir / "heads.safetensors")  # only to go on from here; not shipped
    settings = {k: str(v) for k, v in asdict(config).items() if k != "output_dir"}
    record = settings | {
        "phantoms_drawn": store.drawn,
        "seconds": round(time.time() - start),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "torch": torch.__version__,
    }
    (config.output_dir / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record), flush=True)
    os._exit(0)  # the drawing processes are still busy


# --- model ---


def build_model(processor, init_from: Path | None) -> Gemma3ForConditionalGeneration:
    if init_from:
        return Gemma3ForConditionalGeneration.from_pretrained(init_from, dtype=torch.float32)
    tokenizer = processor.tokenizer
    end_of_turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    text = Gemma3TextConfig(
        vocab_size=math.ceil(len(tokenizer) / 64) * 64, hidden_size=256, intermediate_size=512, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=1, head_dim=64, query_pre_attn_scalar=64, sliding_window=512,
        max_position_embeddings=4096, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, end_of_turn], pad_token_id=tokenizer.pad_token_id,
        layer_types=["sliding_attention"] * 5 + ["full_attention"],
    )  # fmt: skip
    vision = SiglipVisionConfig(
        hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=8, image_size=IMAGE_SIZE,
        patch_size=16, vision_use_head=False,
    )  # fmt: skip
    model = Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=text, vision_config=vision, mm_tokens_per_image=IMAGE_TOKENS,
            boi_token_index=tokenizer.boi_token_id, eoi_token_index=tokenizer.eoi_token_id,
            image_token_index=tokenizer.image_token_id, eos_token_id=[tokenizer.eos_token_id, end_of_turn],
        )
    )  # fmt: skip
    # The library leaves this weight at zero, which hides the image from the text model and stops its gradient.
    nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=vision.hidden_size**-0.5)
    nn.init.normal_(model.model.vision_tower.embeddings.position_embedding.weight, std=0.02)
    return model


class Heads(nn.Module):
    """Direct answers from the mean image token; they shape the vision side and are then thrown away.

    A wrist with growth arrest lines does not teach fractures: telling them from a buckle is left to be learnt."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.months = nn.Linear(hidden, 2 * len(MONTHS))
        self.maturity = nn.Linear(hidden, 2 * CENTRES)
        self.rop = nn.Linear(hidden, len(Zone) + len(Stage) + len(Plus) + 1)
        self.fracture = nn.Linear(hidden, len(Fracture))
        self.view = nn.Linear(hidden, len(View))
        starts, ends = (
            torch.tensor([[f(c, s) for c in centres(s).values()] for s in SEXES], dtype=torch.float32)
            for f in (lambda c, s: c.appears_months, lambda c, s: c.last_visible_change_months(s))
        )
        self.register_buffer("first_month", starts, persistent=False)
        self.register_buffer("last_month", ends, persistent=False)
        self.register_buffer("month", MONTHS, persistent=False)
        directions = torch.linalg.qr(torch.randn(hidden, LOOKS, generator=torch.Generator().manual_seed(0)))[0]
        self.register_buffer("look_directions", directions, persistent=False)  # (hidden, LOOKS), orthonormal

    def pooled(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.norm(tokens.float().mean(1))

    def month_logits(self, pooled: torch.Tensor, sex: torch.Tensor) -> torch.Tensor:
        return self.months(pooled).view(len(pooled), 2, -1)[torch.arange(len(pooled), device=pooled.device), sex]

    def rop_logits(self, pooled: torch.Tensor) -> list[torch.Tensor]:
        return list(self.rop(pooled).split([len(Zone), len(Stage), len(Plus), 1], dim=1))

    def look_loss(self, tokens: torch.Tensor, banding: torch.Tensor, growth_arrest: torch.Tensor) -> torch.Tensor:
        seen = F.rms_norm(tokens.float(), tokens.shape[-1:]).mean(1) @ self.look_directions
        return F.mse_loss(seen, torch.stack([BANDING_PER_GREY_LEVEL * banding, GROWTH_ARREST * growth_arrest], 1))

    def loss(self, tokens: torch.Tensor, labels: dict[View, torch.Tensor], counts: dict[View, int]) -> torch.Tensor:
        by_view = dict(zip(VIEWS, tokens.split(list(counts.values())), strict=True))
        pooled = {view: self.pooled(part) for view, part in by_view.items()}
        views = torch.cat([torch.full((n,), VIEWS.index(v), device=tokens.device) for v, n in counts.items()])
        view_loss = F.cross_entropy(self.view(torch.cat(list(pooled.values()))), views)

        truth = labels[View.HAND]
        sex = truth[:, 1].long()
        logits = self.month_logits(pooled[View.HAND], sex)
        target = torch.softmax(-0.5 * ((self.month - truth[:, :1]) / 2.0) ** 2, -1)
        expected = (logits.softmax(-1) * self.month).sum(-1)
        age_loss = -(target * logits.log_softmax(-1)).sum(-1).mean() + 0.15 * F.smooth_l1_loss(expected, truth[:, 0])
        maturity = self.maturity(pooled[View.HAND]).view(len(sex), 2, -1)[
            torch.arange(len(sex), device=sex.device), sex
        ]
        visible = torch.minimum(torch.maximum(truth[:, 3:], self.first_month[sex]), self.last_month[sex])
        maturity_loss = F.smooth_l1_loss(maturity * 12 + 100, visible, beta=6.0) / 12
        look_loss = self.look_loss(by_view[View.HAND], truth[:, 2], torch.zeros_like(truth[:, 2]))

        zone, stage, plus, ratio = self.rop_logits(pooled[View.FUNDUS])
        truth = labels[View.FUNDUS]
        rop_loss = sum(
            F.cross_entropy(logit, truth[:, i].long()) for i, logit in enumerate((zone, stage, plus))
        ) + F.smooth_l1_loss(ratio[:, 0], truth[:, 3].clamp(max=5) - 2.5)
        truth = labels[View.WRIST]
        plain = truth[:, 4] == 0
        fracture_loss = F.cross_entropy(self.fracture(pooled[View.WRIST][plain]), truth[plain, 0].long())
        look_loss = look_loss + self.look_loss(by_view[View.WRIST], truth[:, 3], truth[:, 4])
        return age_loss + 2 * maturity_loss + 1.5 * rop_loss + 2 * fracture_loss + view_loss + 0.5 * look_loss


def image_tokens(model: Gemma3ForConditionalGeneration, pixels: torch.Tensor, tower=None) -> torch.Tensor:
    """(n, IMAGE_TOKENS, hidden)"""
    tower = model.model.vision_tower if tower is None else tower
    return model.model.multi_modal_projector(tower(pixel_values=pixels).last_hidden_state)


# --- training ---


@dataclass
class Schedule:
    """Warm-up over 200 steps, then a cosine over the time left, to 1 % of the peak."""

    optimizers: list[torch.optim.Optimizer]
    seconds: float
    start: float = field(default_factory=time.time)
    step_count: int = 0

    def __post_init__(self) -> None:
        self.peaks = [[g["lr"] for g in o.param_groups] for o in self.optimizers]

    @property
    def done(self) -> float:
        return (time.time() - self.start) / self.seconds

    def prepare(self) -> None:
        factor = min(1, (self.step_count + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(self.done, 1))))
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            optimizer.zero_grad(set_to_none=True)

    def apply(self, parameters: list[nn.Parameter]) -> None:
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step_count += 1


def optimizers_for(
    named: list[tuple[str, nn.Parameter]], learning_rate: float, muon: float, vision_factor: float
) -> list[torch.optim.Optimizer]:
    """Muon on the vision layers' matrices, AdamW on the rest (the vision side at `vision_factor` of its rate)."""

    def is_matrix(name: str, p: nn.Parameter) -> bool:
        return p.ndim == 2 and "vision_tower" in name and ".layers." in name

    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, p in named:
        if not is_matrix(name, p):
            slow = "language_model" not in name and "lm_head" not in name
            groups.setdefault((p.ndim > 1, slow), []).append(p)
    adamw = torch.optim.AdamW(
        [
            {"params": ps, "weight_decay": 0.03 * decays, "lr": learning_rate * (vision_factor if slow else 1)}
            for (decays, slow), ps in groups.items()
        ],
        betas=(0.9, 0.98),
    )
    matrices = [p for name, p in named if is_matrix(name, p)]
    return [adamw, torch.optim.Muon(matrices, lr=muon, weight_decay=0.01, momentum=0.95, adjust_lr_fn="original")]


def train_vision(model, heads, store, counts, config, validation) -> None:
    named = [(n, p) for n, p in model.named_parameters() if "vision_tower" in n or "projector" in n]
    named += list(heads.named_parameters(prefix="heads"))
    parameters = [p for _, p in named]
    schedule = Schedule(
        optimizers_for(named, config.learning_rate, config.muon_learning_rate, 1.0), config.vision_seconds
    )
    tower = torch.compile(model.model.vision_tower) if store.device == "cuda" else None
    report = 0.0
    while schedule.done < 1:
        samples = {v: store.sample(v, n) for v, n in counts.items()}
        with torch.autocast(store.device, torch.bfloat16, enabled=store.device == "cuda"):
            tokens = image_tokens(model, torch.cat([p for p, _ in samples.values()]), tower)
            loss = heads.loss(tokens, {v: labels for v, (_, labels) in samples.items()}, counts)
        schedule.prepare()
        loss.backward()
        schedule.apply(parameters)
        if schedule.done > report:
            report += 0.1
            figures = validate_heads(model, heads, validation)
            print(
                f"vision {schedule.done:.0%} step {schedule.step_count} loss {loss.item():.3f} {figures} {store.drawn}",
                flush=True,
            )


def train_language(model, heads, processor, store, counts, config, validation) -> None:
    named = list(model.named_parameters()) + list(heads.named_parameters(prefix="heads"))
    parameters = [p for _, p in named]
    schedule = Schedule(
        optimizers_for(named, config.learning_rate, 0.2 * config.muon_learning_rate, 0.3), config.language_seconds
    )
    counts = {v: n // 2 for v, n in counts.items()}  # the text model gains more from steps than from large ones
    trees = {task: AnswerTree.build(ALLOWED[task], processor.tokenizer) for task in (*Task, TRIAGE)}
    prompts = PromptCache(processor)
    linears = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and "lm_head" not in n]
    report = 0.0
    while schedule.done < 1:
        samples = {v: store.sample(v, n) for v, n in counts.items()}
        labels = {v: truth for v, (_, truth) in samples.items()}
        schedule.prepare()
        with rounded_to_nf4(linears, schedule.done > 0.5):
            with torch.autocast(store.device, torch.bfloat16, enabled=store.device == "cuda"):
                tokens = image_tokens(model, torch.cat([p for p, _ in samples.values()]))
                loss = 0.5 * heads.loss(tokens, labels, counts)
                loss = loss + answer_loss(model, trees, prompts, tokens, labels, counts, config.month_sd)
            loss.backward()
        schedule.apply(parameters)
        if schedule.done > report:
            report += 0.2
            print(
                f"language {schedule.done:.0%} step {schedule.step_count} loss {loss.item():.3f} {store.drawn}",
                flush=True,
            )
    with rounded_to_nf4(linears, True):
        print("answers, NF4-rounded:", validate_answers(model, trees, prompts, validation), flush=True)


class PromptCache:
    """Prompt ids by task, sex and age; sex and age are sometimes withheld where a read may lack them."""

    def __init__(self, processor) -> None:
        self.processor, self.known = processor, {}

    def __call__(self, task: str, sex: int | None = None, age: int | None = None) -> list[int]:
        key = (task, sex, age)
        if key not in self.known:
            context = ReadContext(None if sex is None else SEXES[sex], age)
            self.known[key] = prompt_ids(self.processor, task, context)
        return self.known[key]


def answer_loss(model, trees, prompts, tokens, labels, counts, month_sd) -> torch.Tensor:
    """Cross-entropy of each image's answer over whole sequences; bone age against a distribution over months; an
    eighth of every view, and all others, answer the triage question."""
    device = tokens.device
    by_view = dict(zip(VIEWS, tokens.split(list(counts.values())), strict=True))
    withheld = np.random.random

    hands = labels[View.HAND]
    month = torch.arange(MAX_BONE_AGE_MONTHS + 1, device=device)
    months = torch.softmax(-0.5 * ((month - hands[:, :1]) / month_sd) ** 2, -1)
    zone, stage, plus, _, fundus_sex = labels[View.FUNDUS].unbind(1)
    triple = ((zone * len(Stage) + stage) * len(Plus) + plus).clamp(max=len(ALLOWED[Task.ROP]) - 1)
    plain = labels[View.WRIST][:, 4] == 0  # growth arrest lines do not teach fractures, see Heads
    fracture, wrist_sex, age = labels[View.WRIST][plain, :3].unbind(1)
    asked = {
        Task.BONE_AGE: ([prompts(Task.BONE_AGE, int(s)) for s in hands[:, 1].tolist()], by_view[View.HAND], months),
        Task.ROP: (
            [prompts(Task.ROP, int(s) if withheld() < 0.5 else None) for s in fundus_sex.tolist()],
            by_view[View.FUNDUS],
            F.one_hot(triple.long(), len(ALLOWED[Task.ROP])),
        ),
        Task.FRACTURE: (
            [
                prompts(Task.FRACTURE, int(s) if withheld() < 0.5 else None, round(a) if withheld() < 0.5 else None)
                for s, a in zip(wrist_sex.tolist(), age.tolist(), strict=True)
            ],
            by_view[View.WRIST][plain],
            F.one_hot(fracture.long(), len(Fracture)),
        ),
    }
    some = {v: t if v is View.OTHER else t[: max(1, len(t) // 8)] for v, t in by_view.items()}
    views = torch.cat([torch.full((len(t),), VIEWS.index(v), device=device) for v, t in some.items()])
    asked[TRIAGE] = ([prompts(TRIAGE)] * len(views), torch.cat(list(some.values())), F.one_hot(views, len(View)))

    weights = {Task.BONE_AGE: 1.0, Task.ROP: 1.0, Task.FRACTURE: 1.0, TRIAGE: 0.5}
    total = torch.zeros((), device=device)
    for task, (prompt, image, target) in asked.items():
        answers, head = log_probabilities(model, trees[task], prompt, image)
        total = total - weights[task] * ((target * answers).sum(-1).mean() + 0.05 * head.mean())
    return total


@contextmanager
def rounded_to_nf4(linears: list[nn.Linear], on: bool):
    """Within, every linear computes with its 4-bit weights; gradients land on the full-precision ones."""
    if not on:
        yield
        return
    weights = [m.weight.data for m in linears]
    kept = [w.clone() for w in weights]
    torch._foreach_copy_(weights, [nf4(w) for w in kept])
    try:
        yield
    finally:
        torch._foreach_copy_(weights, kept)


# The 16 levels of NF4 (Dettmers et al., QLoRA, 2023, appendix E).
NF4 = torch.tensor(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
)  # fmt: skip


def nf4(weight: torch.Tensor) -> torch.Tensor:
    """`weight` as bitsandbytes would store it in blocks of 64 (the scales themselves kept exact)."""
    levels = NF4.to(weight.device)
    blocks = weight.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True).clamp_min(1e-8)
    return (levels[torch.bucketize(blocks / scale, (levels[1:] + levels[:-1]) / 2)] * scale).view_as(weight)


# --- validation: enough to watch a run by; `pediscreen evaluate` gives the figures ---


@torch.no_grad()
def _tokens(model, images: torch.Tensor) -> torch.Tensor:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
        return torch.cat([image_tokens(model, to_model_pixels(part)).float() for part in images.split(100)])


def median_month(p: torch.Tensor) -> torch.Tensor:
    return (p.cumsum(-1) < 0.5).sum(-1)


@torch.no_grad()
def validate_heads(model, heads, validation) -> dict[str, float]:
    pooled = {v: heads.pooled(_tokens(model, images)) for v, (images, _) in validation.items()}
    truth = {v: labels for v, (_, labels) in validation.items()}
    hands = truth[View.HAND]
    months = median_month(heads.month_logits(pooled[View.HAND], hands[:, 1].long()).softmax(-1))
    zone, stage, plus, _ = heads.rop_logits(pooled[View.FUNDUS])
    right = {
        name: (logit.argmax(1) == truth[View.FUNDUS][:, i]).float().mean().item()
        for i, (name, logit) in enumerate({"zone": zone, "stage": stage, "plus": plus}.items())
    }
    fracture = (heads.fracture(pooled[View.WRIST]).argmax(1) == truth[View.WRIST][:, 0]).float().mean().item()
    figures = {"mae": (months - hands[:, 0]).abs().mean().item(), **right, "fracture": fracture}
    return {k: round(v, 3) for k, v in figures.items()}


@torch.no_grad()
def validate_answers(model, trees, prompts, validation) -> dict[str, float]:
    def probabilities(task: str, view: View, prompt_of) -> torch.Tensor:
        images, labels = validation[view]
        parts = []
        for tokens, rows in zip(_tokens(model, images).split(50), labels.split(50), strict=True):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
                parts.append(log_probabilities(model, trees[task], [prompt_of(r) for r in rows.tolist()], tokens)[0])
        return torch.cat(parts).softmax(-1)

    hands, fundi, wrists = (validation[v][1] for v in (View.HAND, View.FUNDUS, View.WRIST))
    months = median_month(probabilities(Task.BONE_AGE, View.HAND, lambda r: prompts(Task.BONE_AGE, int(r[1]))))
    rop = probabilities(Task.ROP, View.FUNDUS, lambda r: prompts(Task.ROP)).argmax(1).tolist()
    fracture = probabilities(Task.FRACTURE, View.WRIST, lambda r: prompts(Task.FRACTURE)).argmax(1)
    errors = (months - hands[:, 0]).abs()
    figures = {"mae": errors.mean().item(), "within_2": (errors <= 2).float().mean().item()}
    for i, (key, values) in enumerate((("zone", Zone), ("stage", Stage), ("plus_disease", Plus))):
        said = torch.tensor([list(values).index(ALLOWED[Task.ROP][k][key]) for k in rop], device=fundi.device)
        figures[key] = (said == fundi[:, i]).float().mean().item()
    figures["fracture"] = (fracture == wrists[:, 0]).float().mean().item()
    return {k: round(v, 3) for k, v in figures.items()}


if __name__ == "__main__":
    (config,) = HfArgumentParser(PhantomModelConfig).parse_args_into_dataclasses(look_for_args_file=False)
    main(config)
