"""engine.inference.four_bit: what is stored comes back, and a model of MedGemma-4B's shape fits its 2.85 GB."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from engine.errors import ModelUnavailable
from engine.inference import four_bit
from engine.inference.checkpoint import load_reader
from engine.settings import PHANTOM_MODEL_DIR

# google/medgemma-4b-it, config.json
MEDGEMMA_4B = Gemma3Config(
    text_config={
        "vocab_size": 262208, "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    },
    vision_config={
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "image_size": 896, "patch_size": 14, "vision_use_head": False,
    },
    mm_tokens_per_image=256,
)  # fmt: skip
PROCESSOR_BYTES = 40_000_000  # tokenizer.json 33.4 MB and its settings 1.2 MB, rounded up


def tiny(vision_width: int) -> Gemma3ForConditionalGeneration:
    """Random weights; `vision_width` decides whether the vision tower goes to 4 bits."""
    config = Gemma3Config(
        text_config={
            "vocab_size": 320, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64,
        },
        vision_config={
            "hidden_size": 64, "intermediate_size": vision_width, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 16, "vision_use_head": False,
        },
        mm_tokens_per_image=4,
    )  # fmt: skip
    torch.manual_seed(3)
    return Gemma3ForConditionalGeneration(config).to(torch.bfloat16)


def test_int8_rows_are_within_half_a_step():
    weight = torch.randn(50, 300) * torch.logspace(-6, 2, 50)[:, None]
    weight[7] = 0
    codes, scale = four_bit.to_int8_rows(weight)
    assert codes.dtype == torch.int8
    error = (four_bit.from_int8_rows(codes, scale, torch.float32) - weight).abs()
    assert (error <= weight.abs().amax(1, keepdim=True) / 254 * 1.001).all()


@pytest.mark.parametrize("vision_width", [128, 100], ids=["vision in NF4", "vision in int8"])
def test_a_written_folder_computes_what_quantising_at_load_computes(tmp_path, vision_width):
    tiny(vision_width).save_pretrained(tmp_path / "bf16")
    (tmp_path / "four").mkdir()
    four_bit.write(tmp_path / "bf16", tmp_path / "four")
    rows = load_file(tmp_path / "four" / four_bit.INT8_FILE)
    in_int8 = {name for name in rows if not name.endswith(four_bit.ROW_SCALE)}
    assert "language_model.model.embed_tokens.weight" in in_int8
    assert any("vision_tower" in name for name in in_int8) == (vision_width == 100)

    config = Gemma3Config.from_pretrained(tmp_path / "bf16")
    at_load = Gemma3ForConditionalGeneration.from_pretrained(
        tmp_path / "bf16", dtype=torch.float32, quantization_config=four_bit.nf4_config(config, torch.float32)
    )
    written = four_bit.load(tmp_path / "four", Gemma3Config.from_pretrained(tmp_path / "four"), torch.float32, None)
    assert written.lm_head.weight is written.get_input_embeddings().weight
    theirs = dict(at_load.named_parameters())
    for name, ours in written.named_parameters():
        if name.removeprefix("model.").replace("language_model.", "language_model.model.", 1) in in_int8:
            assert (ours - theirs[name]).abs().max() <= theirs[name].abs().max() / 254 * 1.001
        else:
            assert torch.equal(ours, theirs[name]), name
    pixels, ids = torch.randn(1, 3, 32, 32), torch.randint(5, 300, (1, 12))
    with torch.inference_mode():
        features = [m.model.vision_tower(pixel_values=pixels).last_hidden_state for m in (at_load, written)]
        logits = [m(input_ids=ids).logits for m in (at_load, written)]
    assert torch.allclose(*features, rtol=0, atol=features[0].abs().max().item() * 0.02)
    assert torch.allclose(*logits, rtol=0, atol=logits[0].abs().max().item() * 0.03)


def test_the_embedding_stays_in_int8_on_a_device(tmp_path):
    """And computes what its values multiplied out compute, to the last bit."""
    four_bit.write(PHANTOM_MODEL_DIR, tmp_path)
    multiplied, stored = (
        four_bit.load(tmp_path, Gemma3Config.from_pretrained(tmp_path), torch.float32, where)
        for where in (None, {"": "cpu"})
    )
    assert stored.get_input_embeddings().codes.dtype == torch.int8
    assert stored.lm_head.codes.data_ptr() == stored.get_input_embeddings().codes.data_ptr()
    vocabulary = multiplied.config.text_config.vocab_size
    assert stored.config.text_config.vocab_size == stored.model.vocab_size == vocabulary
    ids = torch.randint(10, vocabulary, (2, 20))
    with torch.inference_mode():
        assert torch.equal(stored.get_input_embeddings()(ids), multiplied.get_input_embeddings()(ids))
        assert torch.equal(stored(input_ids=ids).logits, multiplied(input_ids=ids).logits)
        assert torch.equal(
            stored.generate(input_ids=ids, max_new_tokens=4), multiplied.generate(input_ids=ids, max_new_tokens=4)
        )


def test_a_vision_tower_in_int8_stays_so_on_a_device(tmp_path):
    """And computes what its values multiplied out compute, to the last bit."""
    (tmp_path / "four").mkdir()
    tiny(100).save_pretrained(tmp_path / "bf16")
    four_bit.write(tmp_path / "bf16", tmp_path / "four")
    multiplied, stored = (
        four_bit.load(tmp_path / "four", Gemma3Config.from_pretrained(tmp_path / "four"), torch.float32, where).eval()
        for where in (None, {"": "cpu"})
    )
    layers = [m for m in stored.model.vision_tower.modules() if isinstance(m, torch.nn.Linear)]
    assert len(layers) == 2 * 6 and all(m.codes.dtype == torch.int8 for m in layers)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        theirs, ours = (m.model.vision_tower(pixel_values=pixels).last_hidden_state for m in (multiplied, stored))
    assert torch.equal(ours, theirs)


def test_the_arithmetic_equals_the_files(tmp_path):
    four_bit.write(PHANTOM_MODEL_DIR, tmp_path)
    on_disk = sum(f.stat().st_size for f in tmp_path.glob("*.safetensors"))
    size = four_bit.size_of(Gemma3Config.from_pretrained(PHANTOM_MODEL_DIR))
    assert size.total == pytest.approx(on_disk, rel=0.02)  # the files have headers with every tensor's name


def test_names_from_before_and_after_transformers_5_are_stored_alike(tmp_path):
    """Saved again, a checkpoint keeps the names it was loaded by: vision_tower. or model.vision_tower."""
    network = tiny(100)
    sizes = set()
    for kind in ("library's", "module's"):
        source, folder = tmp_path / kind, tmp_path / f"{kind} four"
        folder.mkdir()
        network.save_pretrained(source)
        if kind == "module's":
            named = {name: p.detach().clone() for name, p in network.named_parameters()}
            save_file(named, source / "model.safetensors", metadata={"format": "pt"})
        four_bit.write(source, folder)
        sizes.add((folder / four_bit.INT8_FILE).stat().st_size // 1024)
        four_bit.load(folder, Gemma3Config.from_pretrained(folder), torch.float32, None)
    assert len(sizes) == 1


def test_medgemma_4b_fits(capsys):
    size = four_bit.size_of(MEDGEMMA_4B)
    with capsys.disabled():
        print(f"\nMedGemma-4B's shape: NF4 {size.nf4 / 1e9:.3f}, int8 {size.int8 / 1e9:.3f}, "
              f"bf16 {size.other / 1e9:.3f}, in all {size.total / 1e9:.3f} GB")  # fmt: skip
    assert size.total + PROCESSOR_BYTES <= 2.85e9


def test_medgemma_4b_on_a_gpu_leaves_room_in_four_gigabytes():
    """Int8 rows as they are stored; a folder in full precision has its embedding and its tower in bf16."""
    config = copy.deepcopy(MEDGEMMA_4B)
    full = four_bit.gpu_bytes(config, True)
    config.quantization_config = {}
    assert four_bit.gpu_bytes(config, True) == pytest.approx(2.76e9, rel=0.01)
    assert full - four_bit.gpu_bytes(config, True) == pytest.approx(four_bit.size_of(config).int8, rel=0.001)
    assert four_bit.gpu_bytes(config, False) == pytest.approx(8.6e9, rel=0.01)


def test_a_four_bit_folder_has_no_full_precision(tmp_path):
    four_bit.write(PHANTOM_MODEL_DIR, tmp_path)
    for file in PHANTOM_MODEL_DIR.glob("*token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for name in ("processor_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((PHANTOM_MODEL_DIR / name).read_bytes())
    with pytest.raises(ModelUnavailable, match="4-bit weights"):
        load_reader(str(tmp_path), None, in_four_bits=False)


def test_a_damaged_folder_is_refused_in_one_line(tmp_path):
    four_bit.write(PHANTOM_MODEL_DIR, tmp_path)
    for file in PHANTOM_MODEL_DIR.iterdir():
        if file.suffix in (".json", ".jinja") and file.name != "config.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / four_bit.INT8_FILE).write_bytes(b"not a safetensors file")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_reader(str(tmp_path), None, gated=False)
    (tmp_path / four_bit.INT8_FILE).unlink()
    with pytest.raises(ModelUnavailable, match="embed_tokens"):
        load_reader(str(tmp_path), None, gated=False)
