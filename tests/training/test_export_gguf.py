"""training.export_gguf: what llama.cpp reads from the two files is what the 4-bit model reads."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from engine.errors import ModelUnavailable, Refused
from engine.findings.answers import Task, View
from engine.imaging.preprocess import model_pixels
from engine.inference import four_bit, model_folder
from engine.inference.answer_tree import probabilities
from engine.inference.checkpoint import load_reader
from engine.inference.gguf import GgufReader
from engine.inference.prompts import prompt_ids
from engine.inference.read import ReadContext
from engine.jobs import model_in_use
from engine.phantoms.fundus import fundus
from engine.phantoms.hand import hand
from engine.phantoms.wrist import wrist
from engine.settings import PHANTOM_MODEL_DIR, settings
from tests.engine.inference.pictures import picture
from training import export_gguf, parity
from training.export_gguf import ExportConfig, ExportRefused

FILMS = 40  # of each task


def copy_of_model(folder):
    shutil.copytree(PHANTOM_MODEL_DIR, folder)
    return folder


def refused(folder, output_path, match):
    with pytest.raises(ExportRefused, match=match):
        export_gguf.export(folder, output_path, four_bit_model=folder, data={})
    assert not output_path.exists()


def test_unfit_sources_are_refused_at_the_start(tmp_path, monkeypatch):
    out = tmp_path / "out"
    refused(tmp_path, out, "holds no config.json")
    in_four_bits = tmp_path / "four"
    in_four_bits.mkdir()
    four_bit.write(PHANTOM_MODEL_DIR, in_four_bits)
    shutil.copyfile(PHANTOM_MODEL_DIR / "reading.json", in_four_bits / "reading.json")
    refused(in_four_bits, out, "holds 4-bit weights")
    model = copy_of_model(tmp_path / "model")
    (model / "tokenizer.model").unlink()
    refused(model, out, "holds no tokenizer.model")
    model = copy_of_model(tmp_path / "pattern")
    config = json.loads((model / "config.json").read_text())
    config["text_config"]["layer_types"] = ["full_attention"] + ["sliding_attention"] * 5
    (model / "config.json").write_text(json.dumps(config))
    refused(model, out, "every sixth layer")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    refused(PHANTOM_MODEL_DIR, out, "No space")


def test_missing_tools_are_named(monkeypatch):
    found = export_gguf.importlib.util.find_spec
    monkeypatch.setattr(
        export_gguf.importlib.util, "find_spec", lambda name: None if name == "xllamacpp" else found("json")
    )
    with pytest.raises(ExportRefused, match=r"xllamacpp not installed: pip install 'pediscreen\[gguf\]'"):
        export_gguf.check_tools()


def test_a_folder_without_the_files_is_unavailable(tmp_path):
    pytest.importorskip("xllamacpp")
    with pytest.raises(ModelUnavailable, match="holds no model-Q4_K_M.gguf"):
        GgufReader(tmp_path)


def test_more_bits_where_llama_quantize_gives_them():
    """Gemma 3 4B, 34 layers: the layers llama-quantize lists as q6_K for ffn_down and attn_v."""
    more = [i for i in range(34) if export_gguf._takes_more_bits(f"blk.{i}.ffn_down.weight", 34)]
    assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29, 30, 31, 32, 33]
    assert export_gguf._takes_more_bits("token_embd.weight", 34)
    assert not export_gguf._takes_more_bits("blk.0.ffn_up.weight", 34)


def test_the_converter_is_given_the_names_and_settings_it_knows(tmp_path):
    export_gguf.as_converter_reads(PHANTOM_MODEL_DIR, tmp_path / "source")
    names = set(load_file(tmp_path / "source" / "model.safetensors"))
    assert "vision_tower.vision_model.embeddings.patch_embedding.bias" in names
    assert not any(n.startswith("vision_tower.") and ".vision_model." not in n for n in names)
    settings = json.loads((tmp_path / "source" / "preprocessor_config.json").read_text())
    assert settings["image_seq_length"] == 100 and settings["image_mean"] == [0.5] * 3


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    for tool in export_gguf.TOOLS:
        pytest.importorskip(tool)
    folder = tmp_path_factory.mktemp("exported") / "gguf"
    return folder, export_gguf.main(ExportConfig("phantom", folder, images_per_task=FILMS))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_llama_cpp_reads_what_the_4_bit_model_reads(exported):
    folder, certificate = exported
    found = certificate["gguf_against_four_bit"]
    assert certificate == json.loads((folder / "gguf.json").read_text())
    assert certificate["images_per_task"] == {"bone_age": FILMS, "rop": FILMS, "fracture": FILMS}
    assert found["film_agreement"] >= 0.98 and found["months_within_1"] >= 0.95


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_unquantised_files_give_the_librarys_own_probabilities(exported, tmp_path):
    """Tokens, image block, masks and features: f16 through llama.cpp against transformers in float32."""
    folder, _ = exported
    source, f16 = tmp_path / "source", tmp_path / "f16"
    shutil.copytree(folder, f16)
    export_gguf.as_converter_reads(PHANTOM_MODEL_DIR, source)
    export_gguf.convert(source, f16 / "f16.gguf")
    export_gguf.convert(source, f16 / "mmproj-f16.gguf", "--mmproj")
    theirs = load_reader("phantom", None, gated=False, in_four_bits=False)
    ours = GgufReader(f16, text_file="f16.gguf")
    for task, draw in ((Task.BONE_AGE, hand), (Task.ROP, fundus), (Task.FRACTURE, wrist)):
        image, context = picture(draw(parity.HELD_OUT)), ReadContext("M", 90)
        with torch.inference_mode():
            expected = probabilities(
                theirs.network,
                theirs._trees[task],
                [prompt_ids(theirs.processor, task, context)],
                theirs.image_tokens([image]),
            )[0]
        assert torch.allclose(ours.probabilities(image, task, context), expected, atol=5e-3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_other_tokens_are_noticed(exported, monkeypatch):
    """A prompt without the blank lines that Gemma3Processor puts around the image is not read."""
    reader = GgufReader(exported[0])
    ask = reader._ask
    monkeypatch.setattr(
        reader,
        "_ask",
        lambda path, body=None: (
            ask(path, body | {"content": body["content"].replace("\n\n\n", "\n")})
            if path == "/tokenize"
            else ask(path, body)
        ),
    )
    with pytest.raises(ValueError, match="before the image llama.cpp has the tokens"):
        reader.read([picture(hand(3))], Task.BONE_AGE, [ReadContext("F", 80)])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_exported_folder_may_be_published(exported, tmp_path):
    from training.publish_checks import files_to_publish

    model = tmp_path / "prod"
    model.mkdir()
    four_bit.write(PHANTOM_MODEL_DIR, model)
    for name in ("reading.json", "parity.json"):
        (model / name).write_text("{}")
    shutil.copytree(exported[0], model / "gguf")
    assert {"gguf/model-Q4_K_M.gguf", "gguf/mmproj-f16.gguf", "gguf/gguf.json"} <= set(files_to_publish(model))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_one_switch_reads_through_llama_cpp_what_the_export_reads(exported, tmp_path, data_dir, monkeypatch):
    """PEDISCREEN_MODEL=D/gguf: for a model that is not the phantom one, which has no gate there."""
    folder = tmp_path / "gguf"
    shutil.copytree(exported[0], folder)
    monkeypatch.setenv("PEDISCREEN_MODEL", str(folder))
    settings.cache_clear()
    with pytest.raises(ModelUnavailable, match="no gate and would read real films"):
        model_in_use.load_reader(None)
    (folder / "reading.json").write_text(json.dumps({"name": "somebody's model", "knows_triage": True}))
    reader = model_in_use.load_reader(None)
    assert reader.model_version == model_folder.configured_name(str(folder), None)
    assert reader.model_version.startswith("somebody's model gguf (")
    pictures = [picture(draw(parity.HELD_OUT + 7)) for draw in (hand, fundus, wrist)]
    pixels = model_pixels(pictures, reader.image_processor)
    four_bits = load_reader("phantom", None, gated=False)
    for number, task in enumerate(Task):
        (read,) = reader.read_pixels(pixels[number : number + 1], task, [ReadContext("M", 90)])
        (other,) = four_bits.read([pictures[number]], task, [ReadContext("M", 90)])
        if task is Task.BONE_AGE:
            assert abs(read.median_months - other.median_months) <= 2
        else:
            assert read.answer == other.answer
    assert [view for view, _ in reader.triage_pixels(pixels)] == [View.HAND, View.FUNDUS, View.WRIST]
    with pytest.raises(Refused, match="no explanation"):
        reader.words(pixels[0], Task.BONE_AGE, ReadContext("M"))
    monkeypatch.setenv("LORA_ADAPTER_PATH", str(tmp_path))
    settings.cache_clear()
    with pytest.raises(ModelUnavailable, match="merge the adapter before the export"):
        model_in_use.load_reader(None)
