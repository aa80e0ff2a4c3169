"""Adapters in PEFT's format: merged by us, held against PEFT's own model of base and adapter apart."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from journey.errors import JourneyError
from journey.model import adapter, families, huggingface, lora

EMBEDDING = {"gpt2": "wte", "llama": "embed_tokens", "qwen2": "embed_tokens", "qwen3": "embed_tokens"}
IDS = torch.arange(62).reshape(2, 31) * 37 % 97
VARIANTS = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"{0}": 2}, "alpha_pattern": {r".*\.1\.{0}": 5, "{1}": 32}},
    "one layer": {"layers_to_transform": [1]},
    "tokens": {"trainable_token_indices": [5, 90, 7]},
    "tokens, tied": {"trainable_token_indices": [5, 90, 7], "ensure_weight_tying": True},
    "tokens by module": {"trainable_token_indices": {"{embedding}": [3, 4], "lm_head": [3]}},
    "embedding and head": {"modules_to_save": ["lm_head", "{embedding}"]},
    "embedding": {"modules_to_save": ["{embedding}"]},
    "embedding, tied": {"modules_to_save": ["{embedding}"], "ensure_weight_tying": True},
    "head": {"modules_to_save": ["lm_head"]},
    "norms": {"modules_to_save": ["norm", "ln_1"]},  # Llama's end in norm, and so do those of its blocks
}


def filled(value, family, parts):
    """The variant's settings with a family's own names."""
    if isinstance(value, dict):
        return {filled(key, family, parts): filled(each, family, parts) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, family, parts) for each in value]
    if not isinstance(value, str):
        return value
    value = value.replace("{0}", parts[0]).replace("{1}", parts[1])
    return value.replace("{embedding}", EMBEDDING[family])


def adapted(base, folder, targets, amount=0.1, **more):
    """An adapter made by PEFT alone, all that it trains moved at random."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    made = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM", **more))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=amount)
    made.save_pretrained(folder)
    return folder


def unmerged(base, folder):
    with torch.inference_mode():
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder)).eval()(IDS).logits


def ours(folder):
    with torch.inference_mode():
        return huggingface.load(folder).eval()(IDS)


@pytest.fixture(scope="module")
def bases(theirs, tmp_path_factory):
    """(Family, tied) -> folder of a small model."""
    folders = {}
    for family in EMBEDDING:
        for tied in (True, False):
            place = folders[family, tied] = tmp_path_factory.mktemp("base")
            dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0) if family == "gpt2" else {}
            theirs(family, tied, **dropout).save_pretrained(place)
    return folders


@pytest.fixture
def made(bases, tmp_path):
    """A plain adapter of the llama, to be damaged."""
    return adapted(bases["llama", True], tmp_path / "adapter", ["self_attn.q_proj"])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", EMBEDDING)
@pytest.mark.parametrize("tied", [True, False])
def test_merged_computes_what_peft_does_unmerged(family, variant, tied, bases, tmp_path):
    base = bases[family, tied]
    parts = lora.targets(huggingface.load_config(base), "all-linear")
    folder = adapted(base, tmp_path / "made", parts, **filled(VARIANTS[variant], family, parts))
    theirs, found = unmerged(base, folder), ours(folder)
    assert (theirs - ours(base)).abs().max() > 0.1, "an adapter that does nothing would prove nothing"
    assert (found - theirs).abs().max() <= 1e-5 * max(1, theirs.abs().max() / 10)
    again = huggingface.in_transformers(folder).eval()
    with torch.inference_mode():
        assert (again(IDS).logits - found).abs().max() <= 1e-5 * max(1, theirs.abs().max() / 10)


@pytest.mark.parametrize("family", EMBEDDING)
def test_merged_weights_are_those_of_merge_and_unload(family, bases, tmp_path):
    base = bases[family, True]
    parts = lora.targets(huggingface.load_config(base), "all-linear")
    folder = adapted(base, tmp_path / "made", parts, use_dora=True)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder)).merge_and_unload()
    _, merged = huggingface.read(folder)
    for name, tensor in theirs.state_dict().items():
        if name in merged:
            torch.testing.assert_close(merged[name], tensor, atol=1e-6, rtol=1e-6)
    assert len(merged) >= len(dict(theirs.named_parameters()))


@pytest.mark.parametrize("variant", [{}, {"use_dora": True}, {"trainable_token_indices": [5, 90]}])
@pytest.mark.parametrize("family", EMBEDDING)
def test_an_adapter_that_is_off_is_its_base_bit_for_bit(family, variant, bases, tmp_path):
    base = bases[family, True]
    folder = adapted(base, tmp_path / "made", lora.targets(huggingface.load_config(base), "all-linear"), 0, **variant)
    assert torch.equal(ours(folder), ours(base))


@pytest.mark.parametrize("role", ["attention", "mlp", "all-linear"])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_targets_are_the_matrices_of_the_role_and_no_other(family, role, bases):
    base = bases[family, False]
    model = AutoModelForCausalLM.from_pretrained(base)
    said = lora.targets(huggingface.load_config(base), role)
    made = get_peft_model(model, LoraConfig(target_modules=said, task_type="CAUSAL_LM"))
    matrices = {name for name, tensor in model.named_parameters() if tensor.dim() == 2 and "lora" not in name}
    blocks = families.get(family).blocks
    inside = {name.removesuffix(".base_layer.weight").removesuffix(".weight") for name in matrices}
    inside = {name for name in inside if name.removeprefix("base_model.model.").startswith(blocks)}
    part = {"attention": ("attn.",), "mlp": ("mlp.",), "all-linear": ("attn.", "mlp.")}[role]
    assert set(made.base_model.targeted_module_names) == {
        name.removeprefix("base_model.model.") for name in inside if any(each in name for each in part)
    }


def test_an_adapter_on_an_adapter_is_merged_into_it(bases, tmp_path):
    base = bases["qwen3", True]
    first = adapted(base, tmp_path / "first", ["self_attn.q_proj"])
    merged = huggingface.in_transformers(first)
    merged.save_pretrained(tmp_path / "whole")
    second = adapted(tmp_path / "whole", tmp_path / "second", ["mlp.up_proj"])
    expected = unmerged(tmp_path / "whole", second)
    adapter.record_base(second, first, "0" * 64, "first")
    assert adapter.chain(second) == [second, first.resolve(), base]
    assert (ours(second) - expected).abs().max() <= 1e-5
    adapter.record_base(first, second, "0" * 64, "second")
    with pytest.raises(JourneyError, match=r"are others|on more than 8 others"):
        huggingface.load(second)


def _say(folder, **values):
    path = folder / adapter.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is IA3, and we merge LORA alone"),
        ({"peft_type": None}, "peft_type is None"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa', which changed the base too"),
        ({"layer_replication": [[0, 2]]}, "'layer_replication' is .* which we do not merge"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"lora_bias": True}, "'lora_bias' is True"),
        ({"two\nlines": True}, "'two.nlines' is True"),
        ({"lora_alpha": 10**400}, "has alpha 1000"),
        ({"lora_alpha": float("nan")}, "has alpha nan"),
        ({"of_the_future": {"a": 1}}, "of_the_future"),
        ({"lora_alpha": "16"}, "has alpha '16'"),
        ({"alpha_pattern": {"(": 3}}, "is no pattern"),
        ({"alpha_pattern": [3]}, r"alpha_pattern is \[3\]: it is damaged"),
        ({"base_model_name_or_path": None}, "does not say which model it adapts"),
        ({"base_model_name_or_path": "meta-llama/Llama"}, "adapts meta-llama/Llama, which is no folder here"),
    ],
)
def test_what_we_do_not_merge_is_refused_by_name(values, said, made):
    _say(made, **values)
    with pytest.raises(JourneyError, match=said) as error:
        huggingface.load(made)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name, t: {} if "lora_B" in name and ".1." in name else {name: t}, "has lora_A and no lora_B"),
        (lambda name, t: {} if "lora_A" in name and ".1." in name else {name: t}, "without its lora_A"),
        (lambda name, t: {name: t[:, :-1].clone() if "lora_A" in name else t}, r"holds \(4, 31\), where .* \(4, 32\)"),
        (lambda name, t: {name: t[:0].clone() if "lora_A" in name else t}, "it is damaged"),
        (lambda name, t: {name: t.int()}, "for another model"),
        (lambda name, t: {name.replace("q_proj", "w_proj"): t}, "w_proj.weight, which its base does not have"),
        (lambda name, t: {name.replace("base_model.model.", ""): t}, "not as PEFT names tensors"),
        (lambda name, t: {name: t, name.replace("lora_", "lora_C"): t.clone()}, "lora_C.* is no LoRA of a matrix"),
    ],
)
def test_a_damaged_file_is_refused(change, said, made):
    tensors = load_file(made / adapter.WEIGHTS)
    save_file(
        {n: t for name, tensor in tensors.items() for n, t in change(name, tensor).items()}, made / adapter.WEIGHTS
    )
    with pytest.raises(JourneyError, match=said):
        huggingface.load(made)


def test_rows_of_tokens_that_are_not_there_are_refused(bases, tmp_path):
    folder = adapted(bases["llama", True], tmp_path / "a", ["self_attn.q_proj"], trainable_token_indices=[3, 4])
    for ids, said in (
        ([3, 97], "trained token 97, its base has 97"),
        ([3], "has 2 trained rows"),
        (["3", 4], "2 train"),
    ):
        _say(folder, trainable_token_indices=ids)
        with pytest.raises(JourneyError, match=said):
            huggingface.load(folder)


def test_other_files_are_refused(made, bases):
    shutil.copyfile(bases["llama", True] / "model.safetensors", made / "model.safetensors")
    with pytest.raises(JourneyError, match="holds an adapter and a whole model"):
        huggingface.load(made)
    (made / "model.safetensors").unlink()
    (made / adapter.WEIGHTS).rename(made / "adapter_model.bin")
    with pytest.raises(JourneyError, match="as a pickle"):
        huggingface.load(made)


def _node(folder, id):
    (folder / "lineage.json").write_text(json.dumps({"id": id}))


def test_the_base_is_found_again_where_the_workspace_went(bases, tmp_path):
    old, id = tmp_path / "old", "ab" * 32
    shutil.copytree(bases["llama", True], old / "base-abab")
    _node(old / "base-abab", id)
    folder = adapted(old / "base-abab", old / "made", ["self_attn.q_proj"])
    adapter.record_base(folder, old / "base-abab", id, "base")
    found = ours(folder)
    old.rename(tmp_path / "new")
    assert adapter.base(tmp_path / "new" / "made") == tmp_path / "new" / "base-abab"
    assert torch.equal(ours(tmp_path / "new" / "made"), found)
    # Somebody else's model stands where the base was: the node beside it counts.
    shutil.copytree(bases["llama", False], old / "base-abab")
    assert torch.equal(ours(tmp_path / "new" / "made"), found)
    shutil.rmtree(tmp_path / "new" / "base-abab")
    with pytest.raises(JourneyError, match=r"adapts base \(node ababababab, weights .*are others"):
        huggingface.load(tmp_path / "new" / "made")
    shutil.rmtree(old)
    with pytest.raises(JourneyError, match=r"adapts base \(node ababababab.* neither at .* put that node there"):
        huggingface.load(tmp_path / "new" / "made")


def test_other_weights_at_the_same_place_are_refused(bases, tmp_path):
    shutil.copytree(bases["llama", True], tmp_path / "base")
    folder = adapted(tmp_path / "base", tmp_path / "made", ["self_attn.q_proj"])
    adapter.record_base(folder, tmp_path / "base", "0" * 64, "base")
    ours(folder)
    weights = load_file(tmp_path / "base" / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, tmp_path / "base" / "model.safetensors")
    with pytest.raises(JourneyError, match=r"but the weights in .* are others"):
        huggingface.load(folder)


def test_other_tools_open_what_record_base_leaves(bases, tmp_path, monkeypatch):
    base = bases["gpt2", True]
    folder = adapted(base, tmp_path / "made", ["attn.c_attn"])
    adapter.record_base(folder, base, "0" * 64, "base")
    monkeypatch.chdir(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        assert (model(IDS).logits - ours(folder)).abs().max() <= 1e-5
        assert (model(IDS).logits - unmerged(base, folder)).abs().max() <= 1e-5
    # With a config.json beside it transformers takes it for a whole model whose weights are gone: nodes have none.
    shutil.copyfile(base / "config.json", folder / "config.json")
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        AutoModelForCausalLM.from_pretrained(folder)
