"""QLoRA on one GPU at MedGemma-4B's shape: samples a second and memory, beside Google's recipe in the same run.

    python tests/benchmarks/qlora_throughput.py [--tiny] [--json FILE]

Weights are random (speed and memory do not depend on them), the samples the same for every row: 418 tokens, of which
256 are the image's and the last 40 the answer. `google` is the recipe of Google's MedGemma notebook: NF4, eager
attention, LoRA on every linear layer, trained copies of embedding and head, checkpointing, loss over the prompt, the
vision tower in every step. Ours is the pass of training.train_radiology with image tokens computed once; what they
cost is in a line of its own. `--tiny` runs the same code on a small model (a CPU will do) to see that it runs."""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from training.answer_loss import soft_cross_entropy
from training.language_pass import answer_logits, lean_lora, prepare_layers, unpack
from training.radiology_processor import IGNORED, Batch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
IMAGE_TOKENS, IMAGE_START, LENGTH, ANSWER = 256, 5, 418, 40
LANGUAGE_LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
GOALS = {"12 GB": 24.0, "40 GB": 45.0}
KERNELS = {
    "matrix products": r"gemm|cutlass|nvjet|xmma|cublas",
    "attention": r"flash|fmha|attention",
    "unpacking NF4": r"dequant|Blockwise",
    "fused element-wise (norms, GELU, rotary, LoRA sums)": r"triton",
    "optimiser": r"multi_tensor|adam",
}


def shape(tiny: bool) -> Gemma3Config:
    if tiny:
        text = dict(vocab_size=2048, hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=2,
                    num_key_value_heads=1, head_dim=64, sliding_window=1024)  # fmt: skip
        vision = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2)
        special = dict(image_token_index=2000, boi_token_index=2001, eoi_token_index=2002)
    else:
        text = dict(vocab_size=262208, hidden_size=2560, intermediate_size=10240, num_hidden_layers=34,
                    num_attention_heads=8, num_key_value_heads=4, head_dim=256, sliding_window=1024)  # fmt: skip
        vision = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16)
        special = {}
    vision |= dict(image_size=896, patch_size=14, vision_use_head=False)
    return Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=IMAGE_TOKENS, **special)


def build(tiny: bool, attention: str = "sdpa") -> nn.Module:
    torch.manual_seed(0)
    torch.set_default_dtype(DTYPE)
    with torch.device(DEVICE):
        network = Gemma3ForConditionalGeneration._from_config(shape(tiny), attn_implementation=attention, dtype=DTYPE)
    torch.set_default_dtype(torch.float32)
    nn.init.normal_(network.model.multi_modal_projector.mm_input_projection_weight, std=0.03)
    return network.train()


def to_nf4(network: nn.Module, keep: str) -> None:
    """Every linear layer in NF4 with double quantisation, as bitsandbytes does on loading, except those named."""
    for name, module in list(network.named_modules()):
        if type(module) is nn.Linear and not re.search(keep, name):
            parent = network.get_submodule(name.rpartition(".")[0])
            packed = Linear4bit(module.in_features, module.out_features, bias=module.bias is not None,
                                compute_dtype=DTYPE, quant_type="nf4", device="meta")  # fmt: skip
            packed.weight = Params4bit(
                module.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True, module=packed
            ).to(DEVICE)
            packed.bias = module.bias
            setattr(parent, name.rpartition(".")[2], packed)
    network.is_loaded_in_4bit = True


def samples(network: nn.Module, rows: int) -> tuple[Batch, torch.Tensor]:
    """The same for every recipe: token ids and 896 px images."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(10, 1500, (rows, LENGTH), generator=generator)
    span = (IMAGE_START, IMAGE_START + IMAGE_TOKENS)
    ids[:, slice(*span)] = network.config.image_token_id
    labels = ids.clone()
    labels[:, : LENGTH - ANSWER] = IGNORED
    types = (ids == network.config.image_token_id).long()
    pixels = torch.randn(rows, 3, 896, 896, generator=generator).to(DEVICE, DTYPE)
    return Batch([], ids, torch.ones_like(ids), types, labels, span), pixels


def google(tiny: bool) -> tuple:
    network = build(tiny, "eager")
    to_nf4(network, keep="lm_head")
    network = prepare_model_for_kbit_training(network, use_gradient_checkpointing=True)
    network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    network.enable_input_require_grads()
    lora = LoraConfig(r=16, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM",
                      modules_to_save=["lm_head", "embed_tokens"])  # fmt: skip
    network = get_peft_model(network, lora).train()
    batch, pixels = samples(network, 4)
    ids = batch.input_ids.to(DEVICE)
    labels = ids.masked_fill(batch.token_type_ids.to(DEVICE) == 1, IGNORED)
    inputs = dict(input_ids=ids, attention_mask=batch.attention_mask.to(DEVICE),
                  token_type_ids=batch.token_type_ids.to(DEVICE), pixel_values=pixels, labels=labels)  # fmt: skip

    def loss() -> torch.Tensor:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
            return network(**inputs).loss

    return network, loss, 4


def ours(tiny: bool, rows: int, *, nf4: bool, compiled: bool, checkpointed: bool) -> tuple:
    network = build(tiny)
    to_nf4(network, keep="lm_head|vision_tower|projector")
    batch, pixels = samples(network, rows)
    with torch.no_grad():
        start = time.perf_counter()
        tower, project = network.model.vision_tower, network.model.multi_modal_projector
        features = torch.cat([project(tower(pixel_values=p).last_hidden_state) for p in pixels.split(8)])
        synchronise()
        vision_s = (time.perf_counter() - start) / rows
    del pixels
    network.model.vision_tower = None
    lora = LoraConfig(r=16, lora_alpha=16, target_modules=LANGUAGE_LAYERS, task_type="CAUSAL_LM")
    network.requires_grad_(False)
    base = get_peft_model(network, lora).train().get_base_model()
    if not nf4:
        unpack(base)
    lean_lora(base)
    prepare_layers(base, compiled=compiled, checkpointed=checkpointed)
    soft = [(1.0, [t], [1.0]) for t in batch.labels[batch.labels != IGNORED].tolist()]

    def loss() -> torch.Tensor:
        return soft_cross_entropy(answer_logits(base, batch, features), soft) / rows

    loss.vision_s = vision_s
    return base, loss, rows


def synchronise() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def measure(name: str, make, steps: int = 8) -> dict:
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    began = time.perf_counter()
    network, loss_of, rows = make()
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, fused=DEVICE == "cuda")

    def step() -> torch.Tensor:
        loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 0.3)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    first = step().item()
    step()
    synchronise()
    ready_s = time.perf_counter() - began
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        last = step()
        synchronise()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    result = {
        "recipe": name,
        "batch": rows,
        "samples_per_s": round(rows / seconds, 2),
        "allocated_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if DEVICE == "cuda" else None,
        "reserved_gb": round(torch.cuda.max_memory_reserved() / 1e9, 2) if DEVICE == "cuda" else None,
        "ready_s": round(ready_s, 1),
        "trained": sum(p.numel() for p in trained),
        "loss": [round(first, 3), round(last.item(), 3)],
    }
    if hasattr(loss_of, "vision_s"):
        result["vision_s_per_image"] = round(loss_of.vision_s, 4)
        result["where"] = where_time_goes(step)
    print(json.dumps(result), flush=True)
    return result


def where_time_goes(step) -> dict[str, float]:
    """Milliseconds of one step by kind of kernel."""
    if DEVICE != "cuda":
        return {}
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        step()
        synchronise()
    total = dict.fromkeys([*KERNELS, "other"], 0.0)
    for event in found.key_averages():
        kind = next((k for k, pattern in KERNELS.items() if re.search(pattern, event.key, re.I)), "other")
        total[kind] += event.self_device_time_total / 1000
    return {k: round(v, 1) for k, v in total.items()}


def matrix_tflops() -> float | None:
    if DEVICE != "cuda":
        return None
    a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=DTYPE) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronise()
    start = time.perf_counter()
    for _ in range(10):
        a @ b
    synchronise()
    return round(10 * 2 * 8192**3 / (time.perf_counter() - start) / 1e12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small model, to see that the code runs")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too")
    parser.add_argument("--only", default="", help="a regular expression on the rows' names")
    arguments = parser.parse_args()
    tiny, rows, compiled = arguments.tiny, 2 if arguments.tiny else 16, DEVICE == "cuda" or arguments.compile
    more = 2 if tiny else 24
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, matrix products {matrix_tflops()} TFLOP/s", flush=True)
    same = check_gradients(tiny, compiled)
    makers = {
        "google's recipe": lambda: google(tiny),
        f"12 GB: NF4, checkpointed, batch {rows}": lambda: ours(
            tiny, rows, nf4=True, compiled=compiled, checkpointed=True
        ),
        f"40 GB: NF4 unpacked once, batch {rows}": lambda: ours(
            tiny, rows, nf4=False, compiled=compiled, checkpointed=False
        ),
        f"40 GB: NF4 unpacked once, batch {more}": lambda: ours(
            tiny, more, nf4=False, compiled=compiled, checkpointed=False
        ),
    }
    found = [measure(n, make, 3 if tiny else 8) for n, make in makers.items() if re.search(arguments.only, n)]
    report(found, name)
    if arguments.json:
        arguments.json.write_text(json.dumps({"device": name, "rows": found}, indent=1) + "\n")
    if not same:
        sys.exit("The fast pass trains on other gradients than the plain one.")


def gradients(tiny: bool, **how) -> dict[str, torch.Tensor]:
    """Of every LoRA weight, at random values of all of them."""
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    network, loss, _ = ours(tiny, 2 if tiny else 4, **how)
    generator = torch.Generator().manual_seed(5)
    for p in network.parameters():
        if p.requires_grad:
            p.data.copy_(torch.randn(p.shape, generator=generator) * 0.02)
    loss().backward()
    return {n: p.grad.float().cpu() for n, p in network.named_parameters() if p.requires_grad}


def check_gradients(tiny: bool, compiled: bool) -> bool:
    """Each fast way against the plain one: a step that is quick and wrong is worth nothing."""
    same = True
    plain = gradients(tiny, nf4=False, compiled=False, checkpointed=False)
    for how in ({"nf4": True, "checkpointed": True}, {"nf4": False, "checkpointed": False}):
        fast = gradients(tiny, compiled=compiled, **how)
        cosines = [torch.cosine_similarity(fast[n].flatten(), plain[n].flatten(), dim=0).item() for n in plain]
        norms = [float(fast[n].norm() / plain[n].norm()) for n in plain]
        print(
            f"gradients, {how}: cosine to the plain pass {min(cosines):.4f} at least, length {min(norms):.3f} to "
            f"{max(norms):.3f} of it, over {len(plain)} weights",
            flush=True,
        )
        same &= min(cosines) > 0.97
    return same


def report(found: list[dict], name: str) -> None:
    print(f"\n{'recipe':44} {'batch':>5} {'samples/s':>10} {'GB':>6} {'reserved':>9} {'24,000 samples':>15}")
    for row in found:
        minutes = 24000 / row["samples_per_s"] / 60
        print(
            f"{row['recipe']:44} {row['batch']:5d} {row['samples_per_s']:10.2f} {row['allocated_gb'] or 0:6.1f} "
            f"{row['reserved_gb'] or 0:9.1f} {minutes:11.0f} min"
        )
    for row in found:
        if row.get("where"):
            parts = ", ".join(f"{k} {v:.0f} ms" for k, v in row["where"].items())
            print(f"\n{row['recipe']}, one step: {parts}")
        if "vision_s_per_image" in row:
            print(f"  image tokens, once an image: {row['vision_s_per_image'] * 1000:.0f} ms")
    for budget, goal in GOALS.items():
        within = [r for r in found if r["recipe"].startswith("1") or r["recipe"].startswith("4")]
        fits = [r["samples_per_s"] for r in within if r["reserved_gb"] and r["reserved_gb"] <= float(budget[:2])]
        best = max(fits, default=0.0)
        print(
            f"within {budget}: {best:.1f} samples/s, goal {goal:.0f}: {'met' if best >= goal else 'missed'} on {name}"
        )


if __name__ == "__main__":
    main()
