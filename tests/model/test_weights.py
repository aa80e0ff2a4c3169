"""Which file and which name a tensor is taken from: as transformers does it, or it is said why not."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from transformers import AutoModel, AutoModelForCausalLM

from journey.errors import JourneyError
from journey.model import foreign, huggingface
from journey.model.families import FAMILIES
from journey.pair import open_pair
from journey.tokenizer.formats import Tokenizer

IDS = torch.arange(24).unsqueeze(0) * 5 % 97
EMBEDDING = {"gpt2": "transformer.wte.weight"} | dict.fromkeys(("llama", "qwen2", "qwen3"), "model.embed_tokens.weight")
HEADS = {"gpt2": {"n_head": 4}, "llama": {"n_head": 4, "n_ctx": 32, "rope_theta": 1e4}}
HEADS["qwen2"] = HEADS["llama"]
HEADS["qwen3"] = {"n_ctx": 32, "rope_theta": 1e4}


def same_as_theirs(folder, tmp_path):
    """transformers, our node and our import compute the same of a folder."""
    expected = AutoModelForCausalLM.from_pretrained(folder).eval()(IDS).logits
    if any(folder.glob("*.safetensors")):
        assert (huggingface.load(folder)(IDS) - expected).abs().max() < 1e-4
    imported(foreign.read(folder), expected, tmp_path)


def imported(source, expected, tmp_path):
    folder = tmp_path / "imported"
    folder.mkdir()
    save_file({n: t.float().contiguous().clone() for n, t in source.tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(huggingface.config_json(source.config, 0, 0, 0)))
    assert (huggingface.load(folder)(IDS) - expected).abs().max() < 1e-4
    if source.logits:
        assert (source.logits(IDS) - expected).abs().max() < 1e-4


def rewrite(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights) or weights, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder, **values):
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | values))


# One of a tied pair.


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kept", ["head", "embedding", "both"])
@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_one_name_of_a_tied_pair_is_both(theirs, tmp_path, family, kept, kind):
    reference = theirs(family)
    folder = tmp_path / "theirs"
    reference.save_pretrained(folder)
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    if kept != "both":
        del state[EMBEDDING[family] if kept == "head" else "lm_head.weight"]
    (folder / "model.safetensors").unlink()
    if kind == "model.safetensors":
        save_file(state, folder / kind, metadata={"format": "pt"})
    else:
        torch.save(state, folder / kind)
    same_as_theirs(folder, tmp_path)


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("front", ["", "model.", "_orig_mod."])
def test_a_bare_state_dict_with_the_head_alone(theirs, tmp_path, family, front):
    reference = theirs(family)
    state = {front + name: tensor for name, tensor in reference.state_dict().items() if name != EMBEDDING[family]}
    torch.save(state, tmp_path / "w.pt")
    source = foreign.read(tmp_path / "w.pt", family, **HEADS[family])
    assert source.config.tied
    imported(source, reference(IDS).logits, tmp_path)


@torch.inference_mode()
def test_a_file_of_save_model_keeps_the_head_alone(theirs, tmp_path):
    """safetensors.torch.save_model removes one of two names, and does not choose by use."""
    reference = theirs("gpt2")
    reference.save_pretrained(tmp_path / "theirs")
    save_model(reference, str(tmp_path / "theirs" / "model.safetensors"))
    assert "transformer.wte.weight" not in load_file(tmp_path / "theirs" / "model.safetensors")
    same_as_theirs(tmp_path / "theirs", tmp_path)
    imported(foreign.read(tmp_path / "theirs/model.safetensors", "gpt2", 4), reference(IDS).logits, tmp_path / "theirs")


def test_a_folder_with_the_head_alone_is_opened_as_a_node(theirs, tmp_path):
    tokenizer = Tokenizer.from_merges([])
    reference = theirs("qwen3", vocab_size=tokenizer.n_ids)
    reference.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda w: w.update({"lm_head.weight": w.pop("model.embed_tokens.weight")}))
    tokenizer.save(tmp_path)
    model, _ = open_pair(tmp_path)
    assert model.head.weight is model.embed.weight
    with torch.inference_mode():
        assert (model(IDS) - reference(IDS).logits).abs().max() < 1e-4


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_of_its_own_under_a_config_that_ties_it_is_kept_as_transformers_keeps_it(theirs, tmp_path, family):
    theirs(family, tied=False).save_pretrained(tmp_path / "theirs")
    configure(tmp_path / "theirs", tie_word_embeddings=True)
    same_as_theirs(tmp_path / "theirs", tmp_path)
    source = foreign.read(tmp_path / "theirs")
    assert not source.config.tied and any("is another: untied" in note for note in source.notes)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_untied_model_without_its_head_is_not_made_up(theirs, tmp_path, family):
    theirs(family, tied=False).save_pretrained(tmp_path)
    rewrite(tmp_path, lambda w: {name: t for name, t in w.items() if name != "lm_head.weight"})
    for read in (huggingface.load, foreign.read):
        with pytest.raises(JourneyError, match=r"lm_head\.weight is missing"):
            read(tmp_path)


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_what_automodel_saved_is_the_model_without_its_head(theirs, tmp_path, family):
    reference = theirs(family)
    reference.save_pretrained(tmp_path / "whole")
    AutoModel.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "theirs")
    assert json.loads((tmp_path / "theirs/config.json").read_text())["architectures"][0].endswith("Model")
    same_as_theirs(tmp_path / "theirs", tmp_path)


# Which file.


@torch.inference_mode()
@pytest.mark.parametrize("older", ["index alone", "with its shards"])
def test_model_safetensors_comes_before_an_index_that_stayed_behind(theirs, tmp_path, older):
    folder = tmp_path / "theirs"
    first = theirs("qwen3")
    for parameter in first.parameters():
        parameter.mul_(0.5)
    first.save_pretrained(folder, max_shard_size="10KB")
    kept = {path.name: path.read_bytes() for path in folder.glob("model*")}
    assert "model.safetensors.index.json" in kept
    theirs("qwen3").save_pretrained(folder)
    for name, data in kept.items():
        if older == "with its shards" or name.endswith("index.json"):
            (folder / name).write_bytes(data)
    expected = theirs("qwen3")(IDS).logits
    assert (AutoModelForCausalLM.from_pretrained(folder)(IDS).logits - expected).abs().max() == 0
    same_as_theirs(folder, tmp_path)


@torch.inference_mode()
def test_safetensors_come_before_pytorchs_file_and_that_before_its_index(theirs, tmp_path):
    folder = tmp_path / "theirs"
    reference = theirs("gpt2")
    reference.save_pretrained(folder)
    torch.save({name: tensor * 0.5 for name, tensor in reference.state_dict().items()}, folder / "pytorch_model.bin")
    same_as_theirs(folder, tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "gone.bin"}}')
    same_as_theirs(folder, folder)


def test_every_missing_shard_is_named(theirs, tmp_path):
    reference = theirs("gpt2")
    reference.save_pretrained(tmp_path, max_shard_size="20KB")
    gone = sorted(tmp_path.glob("model-*.safetensors"))[1]
    gone.unlink()
    for read in (huggingface.load, foreign.read):
        with pytest.raises(JourneyError, match=f"{gone.name} is missing"):
            read(tmp_path)


SHARDS = {"safetensors": "model.safetensors.index.json", "bin": "pytorch_model.bin.index.json"}


@pytest.fixture(params=[(family, kind) for family in ("llama", "qwen2") for kind in SHARDS], ids="-".join)
def sharded(request, theirs, tmp_path):
    """A folder of three shards, what each holds, and what the model computes: two blocks apart, and what is outside."""
    family, kind = request.param
    reference, folder = theirs(family, tied=False), tmp_path / "theirs"
    reference.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    parts = [{}, {}, {}]
    for name, tensor in reference.state_dict().items():
        parts[0 if ".layers.0." in name else 1 if ".layers.1." in name else 2][name] = tensor
    write_shards(folder, kind, parts)
    with torch.inference_mode():
        return folder, kind, parts, reference(IDS).logits


def shard(kind, i, n):
    return f"{'model' if kind == 'safetensors' else 'pytorch_model'}-0000{i + 1}-of-0000{n}.{kind}"


def write_shards(folder, kind, parts):
    save = save_file if kind == "safetensors" else torch.save
    for i, part in enumerate(parts):
        save(part, folder / shard(kind, i, len(parts)))
    where = {name: shard(kind, i, len(parts)) for i, part in enumerate(parts) for name in part}
    (folder / SHARDS[kind]).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))


def index_of(folder, kind, change):
    file = folder / SHARDS[kind]
    said = json.loads(file.read_text())
    change(said["weight_map"])
    file.write_text(json.dumps(said))


@torch.inference_mode()
def test_shards_are_one_model_whichever_of_them_the_index_says_holds_a_tensor(sharded, tmp_path):
    folder, kind, _, expected = sharded
    imported(foreign.read(folder), expected, tmp_path)
    first, last = (shard(kind, i, 3) for i in (0, 2))
    index_of(folder, kind, lambda where: where.update({"lm_head.weight": first, "model.norm.weight": last}))
    imported(foreign.read(folder), expected, tmp_path / "theirs")


@torch.inference_mode()
def test_shards_of_another_save_beside_them_are_not_read(sharded, tmp_path):
    folder, kind, parts, expected = sharded
    older = {name: tensor * 0.5 for part in parts for name, tensor in part.items()}
    index = (folder / SHARDS[kind]).read_text()
    write_shards(folder, kind, [older, {"model.layers.2.strange": torch.ones(1)}])
    (folder / SHARDS[kind]).write_text(index)
    imported(foreign.read(folder), expected, tmp_path)


@pytest.mark.parametrize("i", range(3))
def test_a_shard_that_is_gone_or_cut_off_is_named(sharded, i):
    folder, kind, *_ = sharded
    path = folder / shard(kind, i, 3)
    whole = path.read_bytes()
    for data, said in (
        (whole[:-100], "cut off"),
        (b"version https://git-lfs", "pointer of Git LFS"),
        (None, "missing"),
    ):
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(JourneyError, match=f"{path.name}.*{said}"):
            foreign.read(folder)


def test_an_index_of_another_save_is_refused(sharded):
    """Its shards are gone; or it knows fewer of them than the model has; or those of two saves have the same names."""
    folder, kind, parts, _ = sharded
    saved = (folder / SHARDS[kind]).read_text()
    (folder / SHARDS[kind]).write_text(saved.replace("-of-00003", "-of-00005"))
    with pytest.raises(JourneyError, match=r"-00001-of-00005.* is missing"):
        foreign.read(folder)
    (folder / SHARDS[kind]).write_text(saved)
    index_of(folder, kind, lambda where: [where.pop(name) for name in parts[1]])
    with pytest.raises(JourneyError, match="2 blocks are needed, 1 are there"):
        foreign.read(folder)
    (folder / SHARDS[kind]).write_text(saved)
    index_of(folder, kind, lambda where: [where.pop(name) for name in parts[2]])
    with pytest.raises(JourneyError, match=r"the tensor model\.embed_tokens\.weight is missing"):
        foreign.read(folder)
    write_shards(folder, kind, [parts[0], parts[1] | {"model.norm.weight": parts[2]["model.norm.weight"]}, parts[2]])
    with pytest.raises(JourneyError, match=r"-00003-of-00003.*: another of its shards has model\.norm\.weight too"):
        foreign.read(folder)


def test_shards_of_two_types_and_of_two_kinds(sharded, tmp_path):
    folder, kind, parts, expected = sharded
    half = {name: tensor.bfloat16() for name, tensor in parts[2].items()}
    write_shards(folder, kind, [*parts[:2], half])
    assert foreign.read(folder).notes == ["weights in bfloat16: converted to float32"]
    other = {"safetensors": "bin", "bin": "safetensors"}[kind]
    write_shards(folder, other, parts)
    index_of(folder, kind, lambda where: where.update({"lm_head.weight": shard(other, 2, 3)}))
    if kind == "bin":  # a folder with both has its weights in safetensors
        with torch.inference_mode():
            imported(foreign.read(folder), expected, tmp_path)
        return
    with pytest.raises(JourneyError, match=r"pytorch_model-00003-of-00003\.bin is damaged or cut off"):
        foreign.read(folder)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("[]", "is no object"),
        ("{}", "no weight_map"),
        ('{"weight_map": []}', "no weight_map"),
        ('{"weight_map": {}}', "no weight_map"),
        ('{"weight_map": {"a": 1}}', "no weight_map"),
        ('{"weight_map": {"a": "../../../etc/passwd"}}', "no file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "no file beside it"),
        ('{"weight_map": {"a": "a/../../b.safetensors"}}', "no file beside it"),
        ('{"weight_map": {"a": ".."}}', "no file beside it"),
        ('{"weight_map": {"a": ""}}', "no file beside it"),
        ('{"weight_map": {"a": "x\\u0000y"}}', "no file beside it"),
        ('{"weight_map": {"a": "x\\ny"}}', "no file beside it"),
        ('{"weight_map": {"a": "config.json"}}', "config.json is damaged or cut off"),
        ("{" * 100_000, "not JSON"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_an_index_that_is_damaged_or_leads_away_is_refused(theirs, tmp_path, kind, index, said):
    theirs("gpt2").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / f"{kind}.index.json").write_text(index)
    if kind == "pytorch_model.bin":
        said = said.replace(" is damaged or cut off", ": no file of torch.save")
    with pytest.raises(JourneyError, match=said) as error:
        foreign.read(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    if kind == "model.safetensors":
        with pytest.raises(JourneyError, match=said):
            huggingface.load(tmp_path)


# Names that wrappers changed.

WRAPPED = {
    "compiled": "transformer.h.{}._orig_mod.",
    "checkpointed": "transformer.h.{}._checkpoint_wrapped_module.",
    "FSDP": "_fsdp_wrapped_module.transformer.h.{}._fsdp_wrapped_module.",
    "DDP inside": "transformer.h.{}.module.",
    "all": "_orig_mod.module.transformer.h.{}._fsdp_wrapped_module._checkpoint_wrapped_module._orig_mod.",
    "Fabric": "_forward_module.transformer.h.{}.",
    "Lightning": "model.transformer.h.{}._orig_mod.",
    "a net": "net.transformer.h.{}.",
}


def wrapped(state, as_):
    """A state dict as it looks when each of the blocks was wrapped, and the whole."""
    outside = as_.partition("transformer.")[0]
    result = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if name.startswith("transformer.h."):
            result[as_.format(parts[2]) + ".".join(parts[3:])] = tensor
        else:
            result[outside + name] = tensor
    return result


@torch.inference_mode()
@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("nested", ["", "model", "state_dict", "module", "model_state_dict", "ema"])
def test_wrappers_names_are_dropped_wherever_they_stand(theirs, tmp_path, kind, nested):
    reference = theirs("gpt2")
    state = wrapped(reference.state_dict(), WRAPPED[kind])
    torch.save({nested: state, "epoch": 3, "optimizer": {"state": {}}} if nested else state, tmp_path / "w.pt")
    source = foreign.read(tmp_path / "w.pt", "gpt2", 4)
    assert source.facts == ({"epoch": 3} if nested else {})
    imported(source, reference(IDS).logits, tmp_path)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["compiled", "checkpointed", "FSDP", "all"])
def test_a_folder_with_wrappers_names_is_opened(theirs, tmp_path, kind):
    """transformers finds none of them, and makes new weights in their place."""
    reference = theirs("gpt2")
    reference.save_pretrained(tmp_path / "theirs")
    rewrite(tmp_path / "theirs", lambda w: wrapped(w, WRAPPED[kind]))
    assert (huggingface.load(tmp_path / "theirs")(IDS) - reference(IDS).logits).abs().max() < 1e-4
    assert foreign.read(tmp_path / "theirs").config.n_layer == 2


def test_two_names_that_fall_together_are_refused(theirs, tmp_path):
    state = theirs("gpt2").state_dict()
    state["_orig_mod.transformer.h.0.ln_1.weight"] = torch.ones(32)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(JourneyError, match=r"two of its tensors are transformer\.h\.0\.ln_1\.weight: .* more than one"):
        foreign.read(tmp_path / "w.pt", "gpt2", 4)
    del state["_orig_mod.transformer.h.0.ln_1.weight"]
    state["ema.lm_head.weight"] = torch.ones(97, 32)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(JourneyError, match=r"two of its tensors are lm_head\.weight"):
        foreign.read(tmp_path / "w.pt", "gpt2", 4)
    theirs("gpt2").save_pretrained(tmp_path / "theirs")
    rewrite(tmp_path / "theirs", lambda w: w.update({"wte.weight": torch.ones(97, 32)}))
    for read in (huggingface.load, foreign.read):
        with pytest.raises(JourneyError, match=r"two of its tensors are transformer\.wte\.weight"):
            read(tmp_path / "theirs")


def test_what_a_wrapper_made_of_the_tensors_is_said(theirs, tmp_path):
    state = theirs("gpt2").state_dict()
    for saved, said in [
        ({f"base_model.model.{n}": t for n, t in state.items()} | {
            "base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight": torch.ones(2, 32)}, "merge it first"),
        ({"_fsdp_wrapped_module._flat_param": torch.ones(99)}, "flattened by FSDP: save a full state dict"),
        ({"module": {n: torch.empty(0) for n in state}, "ds_version": "0.19"}, "ZeRO-3 leaves them: run zero_to_fp32"),
        ({"policy": state, "reference": state}, r"several state dicts \(policy, reference\)"),
        ({"model": torch.nn.Linear(2, 2)}, r"holds a torch\.nn\.modules\.linear\.Linear, not a state dict"),
        (torch.nn.Linear(2, 2), r"holds a torch\.nn\.modules\.linear\.Linear, not a state dict"),
        ({"model": {"a": torch.nn.Linear(2, 2)}}, r"no tensors by name \(but torch\.nn\.modules\.linear\.Linear\)"),
        ({"epoch": 1}, "no tensors by name: save"),
        ([state], "holds a list, not a state dict"),
    ]:  # fmt: skip
        torch.save(saved, tmp_path / "w.pt")
        with pytest.raises(JourneyError, match=said):
            foreign.read(tmp_path / "w.pt", "gpt2", 4)


@torch.inference_mode()
def test_a_merged_adapter_that_kept_pefts_names_is_a_model(theirs, tmp_path):
    reference = theirs("gpt2")
    torch.save({f"base_model.model.{n}": t for n, t in reference.state_dict().items()}, tmp_path / "w.pt")
    imported(foreign.read(tmp_path / "w.pt", "gpt2", 4), reference(IDS).logits, tmp_path)


# What people have in the place of a checkpoint.


def pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 548105171\n")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "holds a PEFT adapter .* makes a whole model of it"),
        (["params.json", "consolidated.00.pth"], "Meta's or Mistral's own format"),
        (["consolidated.safetensors"], "consolidated weights without a config.json"),
        (["__0_0.distcp", ".metadata"], "dcp_to_torch"),
        (["latest", "zero_to_fp32.py"], "checkpoint of DeepSpeed"),
        (["mp_rank_00_model_states.pt"], "part of a checkpoint of DeepSpeed"),
        (["model.ckpt.index", "encoder.json", "hparams.json"], "checkpoint of TensorFlow"),
        (["refs/main", "snapshots/abc/config.json"], "name the folder inside its snapshots/"),
        (["checkpoint-500/config.json", "training_args.bin"], "name one of the checkpoint-… folders"),
        (["gpt2-q8_0.gguf"], "holds a GGUF file"),
        (["tokenizer.json", "tokenizer_config.json"], "a tokenizer without a model"),
        (["ckpt.pt"], r"name a file in it \(ckpt.pt\)"),
        ([], "has no config.json: it is no Hugging Face folder$"),
        (["config.json", "model.fp16.safetensors"], "model.fp16.safetensors is a variant: rename it"),
        (
            ["config.json", "model-00001-of-00002.safetensors"],
            "is a shard: give the shards their model",
        ),
        (["config.json", "gpt2.safetensors"], "gpt2.safetensors goes by another name: rename it"),
        (["config.json", "pytorch_model.fp16.bin"], "pytorch_model.fp16.bin is a variant"),
        (["config.json", "tf_model.h5"], "TensorFlow's"),
        (["config.json", "flax_model.msgpack"], "Flax's"),
        (["config.json", "gpt2-q8_0.gguf"], "for llama.cpp"),
        (["config.json"], "has no weights: model.safetensors or pytorch_model.bin"),
        (["config.json", "model.safetensors", "adapter_config.json"], "holds a PEFT adapter"),
    ],
)
def test_a_folder_that_is_none_of_hugging_faces_says_what_it_is(theirs, tmp_path, files, said):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    if "config.json" in files:
        theirs("gpt2").config.save_pretrained(tmp_path)
    with pytest.raises(JourneyError, match=said):
        foreign.read(tmp_path)


def test_a_file_that_is_no_checkpoint_says_what_it_is(theirs, tmp_path):
    for head, said in [
        (b"GGUF\3\0\0\0", "a GGUF file, for llama.cpp"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x93NUMPY", "NumPy"),
    ]:
        (tmp_path / "x.bin").write_bytes(head)
        with pytest.raises(JourneyError, match=said):
            foreign.read(tmp_path / "x.bin", "gpt2")
    for name in ("x.pt", "x.safetensors"):
        pointer(tmp_path / name)
        with pytest.raises(JourneyError, match="a pointer of Git LFS"):
            foreign.read(tmp_path / name, "gpt2")
    for name in ("model.safetensors", "pytorch_model.bin"):
        folder = tmp_path / name.replace(".", "-")
        theirs("gpt2").save_pretrained(folder)
        os.remove(folder / "model.safetensors")
        pointer(folder / name)
        with pytest.raises(JourneyError, match="a pointer of Git LFS"):
            foreign.read(folder)
