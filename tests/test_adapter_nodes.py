"""A life with an adapter in it: every stage, measure and verb that takes a model takes it, and none of them breaks.

What trains the adapter is PEFT alone here, in the place of a training's body; all around it is as ever.
"""

import dataclasses
import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from journey import measuring
from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.evaluate import harness
from journey.model import adapter, huggingface, lora
from journey.scores import estimates
from journey.stages import kind_of
from journey.stages.merge import Merge, merge
from journey.stages.ptq import PTQ, ptq
from journey.stages.run import Run
from journey.stages.sft import SFT, sft

RECIPE = """\
name: adapted
seed: 3
stages:
  - {{name: prose, stage: text, with: {{source: {texts}/prose.jsonl}}}}
  - {{name: tokenizer, stage: tokenizer, with: {{data: prose, vocab_size: 400}}}}
  - name: base
    stage: pretrain
    parents: [tokenizer]
    with: {{data: prose, n_layer: 2, n_embd: 32, n_ctx: 64, tokens: 8_000, evaluations: 1}}
  - {{name: chat, stage: sft, parents: [base], with: {{data: {texts}/asked.jsonl}}}}
  - {{name: merged, stage: merge, parents: [chat]}}
  - {{name: gguf, stage: quantize, parents: [chat], with: {{types: [f16, lora]}}}}
  - {{name: alone, stage: quantize, parents: [chat], with: {{types: [lora]}}}}
  - {{name: index, stage: index, parents: [chat], with: {{data: prose, embedder: node}}}}
"""
IDS = torch.arange(60).reshape(2, 30) * 37 % 396


def train(parent, config: SFT, run):
    """In the place of sft's body: an adapter as a training leaves it."""
    torch.manual_seed(run.seed)
    targets = lora.targets(huggingface.load_config(parent.path), "all-linear")
    made = get_peft_model(
        huggingface.in_transformers(parent.path), LoraConfig(target_modules=targets, task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    made.save_pretrained(run.folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(parent.path / name, run.folder / name)
    adapter.record_base(run.folder, parent.path, parent.id, parent.name)
    return {}


@pytest.fixture(scope="module")
def lived(tmp_path_factory, write_texts, journey):
    made = write_texts(tmp_path_factory.mktemp("adapted"))
    made.recipe.write_text(RECIPE.format(texts=made.texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "__name__", "sft")
        patch.setattr(sft, "body", train)
        output = journey("run", made.recipe, "--workspace", made.workspace, "--json")
    assert output.code == 0, output.err
    return made


@pytest.fixture
def copy(lived, tmp_path):
    shutil.copytree(lived.workspace, tmp_path / "workspace")
    return dataclasses.replace(lived, workspace=tmp_path / "workspace")


def test_the_node_is_what_peft_writes_and_what_others_open(lived):
    node, base = lived.node("chat"), lived.node("base")
    files = {path.name for path in node.path.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "base.json", "tokenizer.json", "README.md"} <= files
    assert not files & {"config.json", "model.safetensors", "training_args.bin"}
    assert node.is_model and kind_of(node) == "model" and node.parents == [base.id]
    assert node.lineage["weights_sha256"] == node.lineage["files"]["adapter_model.safetensors"]
    said = json.loads((node.path / "base.json").read_text())
    assert said == {"id": base.id, "name": "base", "weights_sha256": base.lineage["weights_sha256"]}
    card = (node.path / "README.md").read_text()
    assert "library_name: peft" in card and "base_model: base\nbase_model_relation: adapter\n" in card
    with torch.inference_mode():
        ours = huggingface.load(node.path).eval()(IDS)
        theirs = AutoModelForCausalLM.from_pretrained(node.path).eval()(IDS).logits
        apart = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), str(node.path)).eval()(IDS)
    assert (ours - theirs).abs().max() <= 1e-5 and (ours - apart.logits).abs().max() <= 1e-5
    assert len(AutoTokenizer.from_pretrained(node.path)) == 400


def test_merged_is_a_whole_model_of_the_same_predictions(lived):
    node, merged = lived.node("chat"), lived.node("merged")
    assert merged.parents == [node.id] and not adapter.is_adapter(merged.path)
    with torch.inference_mode():
        found = AutoModelForCausalLM.from_pretrained(merged.path).eval()(IDS).logits
        assert (found - huggingface.load(node.path).eval()(IDS)).abs().max() <= 1e-5
    checked = merged.lineage["metrics"]["logits_difference"]
    assert checked["value"] <= 1e-5 and "by PEFT" in checked["convention"]
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (merged.path / name).read_bytes() == (node.path / name).read_bytes()
    taken = [measuring.read(each, lived.workspace)["bits_per_byte"] for each in (node, merged)]
    adapted, whole = map(estimates, taken)
    assert adapted and adapted.keys() == whole.keys()
    for key, found in adapted.items():
        assert found.value == pytest.approx(whole[key].value, abs=1e-6)


@pytest.mark.parametrize(
    "command",
    [
        ("tree",),
        ("report",),
        ("verify",),
        ("generate", "chat", "The", "--max-new-tokens", "4"),
        ("diff", "base", "chat"),
        ("diff", "chat", "merged"),
        ("eval", "chat"),
    ],
)
def test_verbs_take_it(command, lived, journey):
    output = journey(*command, "--workspace", lived.workspace, "--json")
    assert output.code == 0 and output.json["ok"], output.err


def test_the_page_tells_of_it(lived):
    page = (lived.workspace / "report.html").read_text()
    assert "base and adapter in one" in page and "qwen3, 2 layers, width 32" in page


def test_the_common_harness_reads_it_where_its_base_went(copy):
    folder = copy.node("chat").path
    lm = harness.transformers_lm(folder, mark=True)
    with torch.inference_mode():
        assert (lm.model(IDS).logits - huggingface.load(folder).eval()(IDS)).abs().max() <= 1e-5


def test_quantized_files(lived, tmp_path, journey):
    files = {path.name for path in lived.node("gguf").path.glob("*.gguf")}
    assert files == {"gguf-f16.gguf", "gguf-lora.gguf"}
    facts = json.loads((lived.node("alone").path / "quantize.json").read_text())
    assert facts["types"] == {} and facts["lora"]["base"] == "base"
    output = journey("quantize", "--parent", lived.node("base").path, "--types", "lora", "--out", tmp_path / "no")
    assert output.code == 2 and "is a whole model: only an adapter can be written as lora" in output.err
    assert not (tmp_path / "no").exists()


def test_a_workspace_that_moved_still_works_and_a_base_that_changed_does_not(copy, lived, journey):
    hidden = lived.workspace.rename(lived.workspace.with_name("hidden"))
    try:
        output = journey("generate", "chat", "The", "--max-new-tokens", "2", "--workspace", copy.workspace)
        assert output.code == 0, output.err
        shutil.rmtree(copy.node("base").path)
        output = journey("generate", "chat", "The", "--workspace", copy.workspace)
        assert output.code == 2 and "adapts base (node " in output.err and output.err.count("\n") == 1
    finally:
        hidden.rename(lived.workspace)


def test_a_base_that_was_trained_anew_is_refused_by_its_hash(copy, journey):
    folder, base = copy.node("chat").path, copy.node("base").path
    said = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(said | {"base_model_name_or_path": str(base)}))
    (folder / "lineage.json").unlink()  # it would tell of the file just changed
    assert journey("generate", folder, "The", "--max-new-tokens", "2").code == 0
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    output = journey("generate", folder, "The")
    assert output.code == 2 and output.err.count("\n") == 1
    assert "adapts base (node " in output.err and f"but the weights in {base} are others" in output.err


def test_an_adapter_from_elsewhere_is_opened_merged_and_has_an_id_of_its_base_too(lived, tmp_path, journey):
    base, folder = lived.node("base").path, tmp_path / "made"
    made = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules=["q_proj"]))
    made.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert kind_of(Node(folder)) == "model" and Node(folder).is_model
    output = journey("generate", folder, "The", "--max-new-tokens", "2")
    assert output.code == 0, output.err
    output = journey("import", folder, "--out", tmp_path / "imported")
    assert output.code == 2 and "`journey merge FOLDER --out DIR` makes a whole model of it" in output.err
    output = journey("merge", folder, "--out", tmp_path / "merged")
    assert output.code == 0, output.err
    assert (tmp_path / "merged" / "chat_template.jinja").exists()
    first = Node(folder).id
    shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.copytree(base, tmp_path / "base")
    said = json.loads((folder / "adapter_config.json").read_text())
    for changes in ({"base_model_name_or_path": str(tmp_path / "base")}, {"lora_alpha": 9}):
        (tmp_path / "elsewhere" / "adapter_config.json").write_text(json.dumps(said | changes))
        assert (Node(tmp_path / "elsewhere").id == first) == ("lora_alpha" not in changes), "a place is no content"
    (tmp_path / "elsewhere" / "adapter_config.json").write_text(
        json.dumps(said | {"base_model_name_or_path": str(tmp_path / "base")})
    )
    weights = load_file(tmp_path / "base" / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, tmp_path / "base" / "model.safetensors")
    assert Node(tmp_path / "elsewhere").id != first, "of the base's weights too"


def test_quantized_it_is_merged_first(lived, tmp_path):
    of_both = [
        ptq(lived.node(name), PTQ(), Run(tmp_path / name)).lineage["weights_sha256"] for name in ("chat", "merged")
    ]
    assert of_both[0] == of_both[1]
    assert (tmp_path / "chat" / "tokenizer.json").read_bytes() == (
        lived.node("chat").path / "tokenizer.json"
    ).read_bytes()


def test_an_adapter_of_quantized_weights_is_refused(lived, tmp_path):
    """Merged into rounded weights it would be another model than was trained."""
    shutil.copytree(lived.node("chat").path, tmp_path / "chat")
    quantized = ptq(lived.node("base"), PTQ(), Run(tmp_path / "quantized"))
    adapter.record_base(tmp_path / "chat", quantized.path, quantized.id, quantized.name)
    with pytest.raises(JourneyError, match="its weights are quantized: this wants the model that they were made of"):
        huggingface.load(tmp_path / "chat")


def test_a_whole_model_is_not_merged(lived, tmp_path):
    with pytest.raises(JourneyError, match="is a whole model: merge takes an adapter"):
        merge(lived.node("base"), Merge(), Run(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_peft_computes_otherwise_is_no_node(lived, tmp_path, monkeypatch):
    monkeypatch.setattr(lora.Pair, "added_to", lambda pair, weight: weight + 0.99 * pair.scale * (pair.B @ pair.A))
    with pytest.raises(JourneyError, match="computes other logits than its base with the adapter"):
        merge(lived.node("chat"), Merge(), Run(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
