"""A read on one GPU at MedGemma-4B's shape: time, rate, memory, agreement, beside `generate()` of the same model.

    export PYTORCH_ALLOC_CONF=expandable_segments:True      # as engine.cli sets it
    python -m tests.benchmarks.read_45ms [--tokenizer DIR] [--work_dir DIR] [--folder DIR] [--json FILE] [--images 512]

Writes a 4-bit folder of that shape with random weights (12 GB of disk while it does; `--folder` keeps it, and uses one
that is there), starts a process that reads from it, and measures the rest in its own. Speed and memory do not depend on
the weights. DIR holds Gemma 3's tokenizer.json and tokenizer_config.json; without it the phantom model's tokenizer is
used, whose prompts are longer. `--tiny` runs the same on a small model, to see that it works."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import gc
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoProcessor, AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from engine.findings.answers import ALLOWED, Task, answer_json
from engine.inference import fast_pass, four_bit
from engine.inference.answer_tree import AnswerTree, padded, probabilities
from engine.inference.checkpoint import load_reader
from engine.inference.fast_pass import FastPass
from engine.inference.prompts import prompt_ids
from engine.inference.read import ReadContext
from engine.inference.reader import Reader, read_of
from engine.inference.remote import RemoteReader
from engine.jobs.read_server import ReadServer
from engine.settings import PHANTOM_MODEL_DIR, settings
from tests.benchmarks.deployable_folder import write_random_weights
from tests.engine.inference.test_four_bit import MEDGEMMA_4B
from training.radiology_merge import save_processor

CONTEXTS = {Task.BONE_AGE: ReadContext("F"), Task.ROP: ReadContext(), Task.FRACTURE: ReadContext("M", 104)}
BATCH = fast_pass.BATCH_SIZES[-1]
NEW_TOKENS = 40  # of generate(), about the length of an answer with its braces


def shape(tiny: bool, tokenizer: Path | None) -> Gemma3Config:
    config = copy.deepcopy(MEDGEMMA_4B)
    if tiny:
        text, vision = config.text_config, config.vision_config
        text.hidden_size, text.intermediate_size, text.num_hidden_layers, text.head_dim = 128, 256, 6, 64
        text.layer_types = text.layer_types[:6]
        vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers = 64, 100, 2
        vision.num_attention_heads = 2
    if tokenizer is None:
        phantom = Gemma3Config.from_pretrained(PHANTOM_MODEL_DIR)
        for name in ("image_token_id", "boi_token_index", "eoi_token_index"):
            setattr(config, name, getattr(phantom, name))
    return config


def write_folder(work: Path, folder: Path, tokenizer: Path | None, tiny: bool) -> None:
    base = work / "base"
    folder.mkdir()
    write_random_weights(base, shape(tiny, tokenizer))
    four_bit.write(base, folder)
    images = Gemma3ImageProcessorPil(size={"height": 896, "width": 896}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    words = AutoTokenizer.from_pretrained(tokenizer or PHANTOM_MODEL_DIR)
    processor = Gemma3Processor(images, words, chat_template=words.chat_template, image_seq_length=256)
    save_processor(processor, folder)


def pictures(count: int, seed: int = 1) -> torch.Tensor:
    """(count, 3, 896, 896) uint8 in pinned memory: clouds of random shape with noise over them."""
    generator = torch.Generator("cuda").manual_seed(seed)
    made = torch.empty(count, 3, 896, 896, dtype=torch.uint8, pin_memory=True)
    for part in made.split(BATCH):
        shapes = torch.randn(len(part), 3, 12, 12, generator=generator, device="cuda")
        cloud = F.interpolate(shapes, size=896, mode="bicubic", align_corners=False)
        noise = torch.randn(cloud.shape, generator=generator, device="cuda")
        part.copy_((128 + 50 * cloud + 8 * noise).clamp(0, 255).to(torch.uint8))
    return made


def gigabytes() -> dict[str, float]:
    """Peaks of the allocator since it was last reset, and what the card has in use now, the CUDA context included."""
    free, total = torch.cuda.mem_get_info()
    return {
        "allocated_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "reserved_gb": round(torch.cuda.max_memory_reserved() / 1e9, 2),
        "card_gb": round((total - free) / 1e9, 2),
    }


FIRST_READ = """
import json, sys, time
start = time.perf_counter()
import torch
from engine.findings.answers import Task
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
imported = time.perf_counter()
reader = load_reader(sys.argv[1], None, gated=False)
loaded = time.perf_counter()
pixels = torch.randint(0, 256, (1, 3, 896, 896), dtype=torch.uint8)
(read,) = reader.read_pixels(pixels, Task.BONE_AGE, [ReadContext("F")])
assert read.answer
seconds = {"imports_s": imported - start, "load_s": loaded - imported, "read_s": time.perf_counter() - loaded}
print(json.dumps({name: round(s, 1) for name, s in seconds.items()}))
"""


def start_to_first_read(folder: Path) -> dict[str, float]:
    """In a process of its own, the second: the first leaves byte code, as an installation does, and files in memory."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder.parent / "bytecode")
    command = [sys.executable, "-c", FIRST_READ, str(folder)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    total = time.perf_counter() - start
    return {"start_to_first_read_s": round(total, 1)} | json.loads(done.stdout.splitlines()[-1])


def single_reads(reader: Reader, task: Task, pixels: torch.Tensor, count: int) -> dict[str, float]:
    """Milliseconds of one image at a time, from pixels in host memory to the Read."""
    times = []
    for k in range(count + 4):
        image = pixels[k % len(pixels)][None]
        start = time.perf_counter()
        reader.read_pixels(image, task, [CONTEXTS[task]])
        times.append((time.perf_counter() - start) * 1000)
    times = sorted(times[4:])  # the first are launched plainly, then captured
    return {"median_ms": round(statistics.median(times), 2), "p99_ms": round(times[int(0.99 * (count - 1))], 2),
            "largest_ms": round(times[-1], 2), "reads": count}  # fmt: skip


def batches(reader: Reader, task: Task, pixels: torch.Tensor) -> dict[str, float]:
    """Images a second in batches of sixteen, and where an image's milliseconds go."""
    contexts = [CONTEXTS[task]] * len(pixels)
    for _ in range(3):
        reader.read_pixels(pixels[:BATCH], task, contexts[:BATCH])
    start = time.perf_counter()
    reader.read_pixels(pixels, task, contexts)
    wall = (time.perf_counter() - start) / len(pixels) * 1000
    fast, prompt = reader._fast, prompt_ids(reader.processor, task, CONTEXTS[task])
    with torch.inference_mode():
        vision = on_the_card(lambda: fast.image_tokens(pixels[:BATCH])) / BATCH
        tokens = fast.image_tokens(pixels[:BATCH])
        language = on_the_card(lambda: fast.scores(task, [prompt] * BATCH, tokens)) / BATCH
    return {
        "images_per_s": round(1000 / wall, 1), "ms_an_image": round(wall, 2), "vision_ms": round(vision, 2),
        "language_ms": round(language, 2), "rest_ms": round(wall - vision - language, 2), "images": len(pixels),
    }  # fmt: skip


def on_the_card(work: Callable[[], object], times: int = 7) -> float:
    """Median milliseconds between the events around it."""
    found = []
    for _ in range(times):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        work()
        after.record()
        torch.cuda.synchronize()
        found.append(before.elapsed_time(after))
    return statistics.median(found)


@torch.inference_mode()
def generated(reader: Reader, pixels: torch.Tensor, tokens: int) -> float:
    """Seconds of `generate()` for one image."""
    ids = torch.tensor([prompt_ids(reader.processor, Task.BONE_AGE, CONTEXTS[Task.BONE_AGE])], device="cuda")
    start = time.perf_counter()
    reader.network.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=normalised(reader, pixels[:1]),
        token_type_ids=(ids == reader.network.config.image_token_id).long(), do_sample=False,
        max_new_tokens=tokens, min_new_tokens=tokens,
    )  # fmt: skip
    torch.cuda.synchronize()
    return time.perf_counter() - start


def normalised(reader: Reader, pixels: torch.Tensor) -> torch.Tensor:
    return ((pixels.cuda().float() - reader._fast.mean) / reader._fast.std).to(reader.network.dtype)


@torch.inference_mode()
def by_graph(fast: FastPass, task: Task, prompt: list[int], pixels: torch.Tensor) -> torch.Tensor:
    return fast.scores(task, [prompt] * len(pixels), fast.image_tokens(pixels))


@torch.inference_mode()
def launched(fast: FastPass, task: Task, prompt: list[int], pixels: torch.Tensor) -> torch.Tensor:
    """What the graphs hold, kernel by kernel."""
    tree, network = fast.trees[task], fast.network
    ids, pads = (t.cuda() for t in padded(tree, [prompt] * len(pixels), fast_pass.PROMPT_MULTIPLE))
    parts = pixels.cuda().split(fast_pass.TOWER_AT_ONCE)
    tokens = torch.cat([fast_pass.image_tokens(network, (part - fast.mean) / fast.std) for part in parts])
    return fast_pass.score(network, tree, fast_pass.fused(), ids, pads, tokens)


@torch.inference_mode()
def by_library(fast: FastPass, task: Task, prompt: list[int], pixels: torch.Tensor) -> torch.Tensor:
    """One pass over the tree through the library's own modules and kernels: the read on a processor."""
    network = fast.network
    shown = ((pixels.cuda() - fast.mean) / fast.std).to(network.dtype)
    tokens = network.model.multi_modal_projector(network.model.vision_tower(pixel_values=shown).last_hidden_state)
    return probabilities(network, fast.trees[task], [prompt] * len(pixels), tokens).log()


@torch.inference_mode()
def brute_force(fast: FastPass, task: Task, prompt: list[int], pixels: torch.Tensor, tokenizer) -> torch.Tensor:
    """Every whole answer by itself, by the library's forward pass from pixels to logits."""
    network, image_token = fast.network, fast.network.config.image_token_id
    shown = ((pixels.cuda() - fast.mean) / fast.std).to(network.dtype)
    scores = []
    for answer in ALLOWED[task]:
        ids = tokenizer(answer_json(answer), add_special_tokens=False)["input_ids"]
        row = torch.tensor([prompt + ids], device="cuda").expand(len(pixels), -1)
        logits = network(
            input_ids=row, attention_mask=torch.ones_like(row), token_type_ids=(row == image_token).long(),
            pixel_values=shown, logits_to_keep=len(ids) + 1,
        ).logits[:, :-1]  # fmt: skip
        said = logits.float().log_softmax(-1)
        scores.append(said.gather(2, row[:, len(prompt) :, None])[..., 0].sum(1))
    return torch.stack(scores, dim=1)


def agreement(fast: FastPass, task: Task, one: Callable, other: Callable, pixels: torch.Tensor) -> dict[str, float]:
    """Of labels and probabilities, over `pixels`."""
    answers, same, largest, months = fast.trees[task].answers, 0, 0.0, 0
    for part in pixels.split(BATCH):
        rows = [way(part).double().cpu().softmax(-1) for way in (one, other)]
        largest = max(largest, float((rows[0] - rows[1]).abs().max()))
        for pair in zip(*rows, strict=True):
            labels = [read_of(task, answers, p, "", 0.0) for p in pair]
            same += labels[0].answer == labels[1].answer
            if task is Task.BONE_AGE:
                months = max(months, abs(labels[0].median_months - labels[1].median_months))
    found = {"images": len(pixels), "same_label": same, "largest_probability_difference": float(f"{largest:.3g}")}
    return found | ({"largest_months": months} if task is Task.BONE_AGE else {})


def small_model() -> dict[str, dict[str, float]]:
    """The phantom model in float32: graph against kernel by kernel, library and brute force."""
    torch.backends.cudnn.allow_tf32 = False  # of the library's convolution
    processor = AutoProcessor.from_pretrained(PHANTOM_MODEL_DIR, backend="pil")
    network = Gemma3ForConditionalGeneration.from_pretrained(PHANTOM_MODEL_DIR, dtype=torch.float32).cuda().eval()
    trees = {task: AnswerTree.build(ALLOWED[task], processor.tokenizer) for task in Task}
    fast = FastPass(network, trees, torch.full((3,), 127.5), torch.full((3,), 127.5))
    pixels = F.interpolate(pictures(4).float(), size=320).to(torch.uint8)
    found = {}
    for task in (Task.FRACTURE, Task.ROP):
        prompt = prompt_ids(processor, task, CONTEXTS[task])
        with torch.inference_mode():
            by_graph(fast, task, prompt, pixels)
        for name, other in other_ways(fast, task, prompt, processor.tokenizer).items():
            found[f"{task.value}, graph against {name}"] = agreement(
                fast, task, lambda p, t=task, q=prompt: by_graph(fast, t, q, p), other, pixels
            )
    return found


def other_ways(fast: FastPass, task: Task, prompt: list[int], tokenizer) -> dict[str, Callable]:
    return {
        "the same kernels launched one by one": lambda p: launched(fast, task, prompt, p),
        "the library's modules, one pass": lambda p: by_library(fast, task, prompt, p),
        "brute force": lambda p: brute_force(fast, task, prompt, p, tokenizer),
    }


def full_size_agreement(reader: Reader, pixels: torch.Tensor) -> dict[str, dict[str, float]]:
    """Brute force for fractures only: three answers instead of 229."""
    found = {}
    for task, names in ((Task.BONE_AGE, (0, 1)), (Task.FRACTURE, (0, 2))):
        prompt = prompt_ids(reader.processor, task, CONTEXTS[task])
        ways = list(other_ways(reader._fast, task, prompt, reader.processor.tokenizer).items())
        for name, other in (ways[k] for k in names):
            found[f"{task.value}, graph against {name}"] = agreement(
                reader._fast, task, lambda p, t=task, q=prompt: by_graph(reader._fast, t, q, p), other, pixels
            )
    return found


def out_of_memory(reader: Reader, pixels: torch.Tensor) -> dict[str, int]:
    """Reads sixteen images in memory that does not take sixteen at once."""
    mean, std = (t[:, 0, 0].cpu() for t in (reader._fast.mean, reader._fast.std))
    reader._fast = FastPass(reader.network, reader._trees, mean, std)  # without the graphs' memory
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.7e9) / total)
    reads = reader.read_pixels(pixels[:BATCH], Task.BONE_AGE, [CONTEXTS[Task.BONE_AGE]] * BATCH)
    torch.cuda.set_per_process_memory_fraction(1.0)
    return {"images": BATCH, "reads": sum(r.answer is not None for r in reads), "at_once_at_the_end": reader._at_once}


def table(result: dict) -> str:
    """What was promised beside what was measured, as far as it was."""
    rows = []
    if "batch_1" in result:
        one = result["batch_1"]["bone_age"]
        rows += [
            ("one read, pixels to answer, median", "<= 45 ms", f"{one['median_ms']:.1f} ms"),
            ("one read, 99 %", "<= 60 ms", f"{one['p99_ms']:.1f} ms"),
            (
                "memory for one (with the CUDA context)",
                "<= 4 GB",
                "{reserved_gb} ({card_gb}) GB".format(**result["memory_1"]),
            ),
        ]
    if "generate" in result:
        rows.append(("generate() of the same model, times slower", ">= 60", f"{result['generate']['times']:.0f}"))
    if "batch_16" in result:
        slowest = min(result["batch_16"].values(), key=lambda row: row["images_per_s"])
        rows += [
            ("batches of 16, slowest task", ">= 45 images/s", f"{slowest['images_per_s']:.1f} images/s"),
            ("  an image: vision, language, rest", "", "{vision_ms} + {language_ms} + {rest_ms} ms".format(**slowest)),
            ("memory for 16", "<= 6 GB", "{reserved_gb} ({card_gb}) GB".format(**result["memory_16"])),
        ]
    if "start" in result:
        rows.append(("process start to first read", "<= 20 s", "{start_to_first_read_s} s".format(**result["start"])))
    if "float32" in result:
        largest = max(row["largest_probability_difference"] for row in result["float32"].values())
        rows.append(("float32, largest probability difference", "<= 1e-5", f"{largest:.1e}"))
    for name, row in result.get("agreement", {}).items():
        same = 100 * row["same_label"] / row["images"]
        rows.append((f"bf16: {name}", "same 100 %", f"{same:.1f} %, {row['largest_probability_difference']:.1g}"))
    head = f"{result['card']}, torch {result['torch']}"
    return "\n".join([head, *(f"{name:75} {promised:>15} {found:>26}" for name, promised, found in rows)])


def through_the_door(reader: Reader, pixels: torch.Tensor) -> dict[str, float]:
    """A read, and the model's own words, by engine.inference.remote from a worker's door in this process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    here = dataclasses.replace(settings(), reads_port=port, reads_token=secrets.token_hex(16))
    door = ReadServer(here, lambda: reader, lambda lost: None)
    door.start()
    try:
        remote = RemoteReader(here.reads_url, here.reads_token)
        task, images = Task.BONE_AGE, pixels[:40].numpy()
        remote.read_pixels(images[:1], task, [CONTEXTS[task]])
        times = []
        for image in images:
            start = time.perf_counter()
            remote.read_pixels(image[None], task, [CONTEXTS[task]])
            times.append((time.perf_counter() - start) * 1000)
        start, arrived = time.perf_counter(), []
        for _ in remote.words(images[0], task, CONTEXTS[task]):
            arrived.append(time.perf_counter() - start)
    finally:
        door.stop()
    return {
        "read_median_ms": round(statistics.median(times), 1), "first_words_s": round(arrived[0], 2),
        "all_words_s": round(arrived[-1], 1), "pieces": len(arrived),
    }  # fmt: skip


PARTS = ("start", "batch_1", "generate", "batch_16", "float32", "agreement", "door", "out_of_memory")


def main(arguments: argparse.Namespace) -> None:
    result: dict = {"card": torch.cuda.get_device_name(), "torch": torch.__version__}

    def say(name: str, value) -> None:
        result[name] = value
        print(f"{name}: {json.dumps(value)}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")

    def fresh() -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as work:
        begun = time.perf_counter()
        folder = arguments.folder or Path(work) / "four_bit"
        if not folder.exists():
            write_folder(Path(work), folder, arguments.tokenizer, arguments.tiny)
        say("write_s", round(time.perf_counter() - begun, 1))
        fresh()
        if "start" in arguments.parts:
            say("start", start_to_first_read(folder))
        reader = load_reader(str(folder), None, gated=False)
        say("tokens", {t.value: padded(reader._trees[t], [prompt_ids(reader.processor, t, c)], 16)[0].shape[1]
                       for t, c in CONTEXTS.items()})  # fmt: skip
        say("memory_loaded", gigabytes() | {"weights_gb": four_bit.gpu_bytes(reader.network.config, True) / 1e9})
        pixels = pictures(arguments.images)
        fresh()
        if "batch_1" in arguments.parts:
            say("batch_1", {t.value: single_reads(reader, t, pixels, arguments.reads) for t in Task})
            say("memory_1", gigabytes())
        if "generate" in arguments.parts:
            generated(reader, pixels, 3)
            seconds = min(generated(reader, pixels, NEW_TOKENS) for _ in range(2))
            one = result["batch_1"]["bone_age"]["median_ms"] / 1000
            say("generate", {"seconds": round(seconds, 3), "tokens": NEW_TOKENS, "times": round(seconds / one, 1)})
        fresh()
        if "batch_16" in arguments.parts:
            say("batch_16", {t.value: batches(reader, t, pixels[: 12 * BATCH]) for t in Task})
            say("memory_16", gigabytes())
        if "float32" in arguments.parts:
            say("float32", small_model())
        if "agreement" in arguments.parts:
            say("agreement", full_size_agreement(reader, pixels))
        if "door" in arguments.parts:
            say("door", through_the_door(reader, pixels))
        if "out_of_memory" in arguments.parts:
            say("out_of_memory", out_of_memory(reader, pixels))
    print(table(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--work_dir", type=Path)
    parser.add_argument("--folder", type=Path, help="where the 4-bit folder is, or is to stay")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--images", type=int, default=512, help="compared for agreement")
    parser.add_argument("--reads", type=int, default=300, help="one by one, of each task")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="generate needs batch_1")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("This measures a GPU, and there is none. tests.benchmarks.read_speed measures the processor.")
    main(given)
