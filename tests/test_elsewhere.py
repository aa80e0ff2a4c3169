"""A node is opened by everyone's tools, where there is no Journey."""

import json
import subprocess
import sys
import zipfile

import pytest
import torch

from journey import chat
from journey.model import huggingface
from journey.tokenizer.formats import Tokenizer

MODELS = ("base", "coder", "chat")
MESSAGES = [{"role": "user", "content": "What does the array do?"}, {"role": "assistant", "content": "It sorts."}]
TEXT = "The small array"

# Isolated, and with a door in front of the one package that must not be needed.
CODE = """
import json, sys

class Closed:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "journey":
            raise ImportError("journey is not here")

sys.meta_path.insert(0, Closed())
try:
    import journey
    sys.exit("journey could be imported")
except ImportError:
    pass
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

asked = json.load(sys.stdin)
for folder in asked["folders"]:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(asked["text"], return_tensors="pt").input_ids
    messages = asked["messages"]
    written = model.generate(ids, max_new_tokens=12, do_sample=False)
    asking = dict(add_generation_prompt=True, return_tensors="pt", return_dict=True)
    said = tokenizer.apply_chat_template(messages[:1], **asking)
    answer = model.generate(**said, max_new_tokens=12, do_sample=False)
    print(json.dumps({
        "class": type(model).__name__,
        "ids": ids[0].tolist(),
        "logits": model(ids).logits[0].tolist(),
        "written": written[0].tolist(),
        "chat": tokenizer.apply_chat_template(messages, return_dict=False),
        "prompt": said["input_ids"][0].tolist(),
        "answer": answer[0].tolist(),
        "text": tokenizer.decode(answer[0]),
        "stops": model.generation_config.eos_token_id,
        "marks": [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token],
    }))
"""


@pytest.fixture(scope="module")
def seen(life):
    """What another process, without Journey, sees in each model node."""
    asked = {"folders": [str(life.node(name).path) for name in MODELS], "messages": MESSAGES, "text": TEXT}
    done = subprocess.run([sys.executable, "-I", "-c", CODE], input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(MODELS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_node_loads_generates_and_chats_elsewhere_as_here(life, seen, name):
    found, folder = seen[name], life.node(name).path
    tokenizer, model = Tokenizer.load(folder), huggingface.load(folder).eval()
    assert found["class"] == "Qwen3ForCausalLM"
    assert found["marks"] == ["<|endoftext|>", "<|end|>", "<|pad|>"]
    assert set(found["stops"]) == tokenizer.stop
    assert found["ids"] == tokenizer.encode(TEXT)
    with torch.inference_mode():
        logits = model(torch.tensor([found["ids"]]))[0]
    torch.testing.assert_close(torch.tensor(found["logits"]), logits, atol=1e-4, rtol=1e-4)
    assert found["chat"] == chat.render(MESSAGES, tokenizer)[0]
    assert found["prompt"] == chat.encode_prompt(MESSAGES[:1], tokenizer)


@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_is_the_same_here_and_there(life, seen, name):
    from journey.infer.engine import generate

    found, folder = seen[name], life.node(name).path
    tokenizer, model = Tokenizer.load(folder), huggingface.load(folder).eval()
    for prompt, written in ((found["ids"], found["written"]), (found["prompt"], found["answer"])):
        (ours,) = generate(model, [prompt], max_new_tokens=12, stop=tokenizer.stop)
        assert prompt + ours.ids == written


def test_a_model_node_has_every_file_that_a_checkpoint_has(life):
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    for name in MODELS:
        there = {path.name for path in life.node(name).path.iterdir()}
        assert there == files | {"generation_config.json", "README.md", "lineage.json", "history.json"}


def test_there_is_no_pickle_in_a_node(life):
    """Neither by name nor by content: a pickle runs code when it is opened."""
    files = [path for path in (life.workspace / "nodes").rglob("*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        assert path.suffix in {".json", ".jsonl", ".safetensors", ".parquet", ".jinja", ".md"}
        assert not zipfile.is_zipfile(path)
        head = path.read_bytes()[:2]
        assert not (head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")), path


def test_a_node_is_a_parent_wherever_it_stands(life, journey, tmp_path):
    """A folder that was moved, lineage and all, is taken as it is."""
    import shutil

    shutil.copytree(life.node("base").path, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "lineage.json").unlink()  # as a folder from the Hub
    output = journey("generate", tmp_path / "elsewhere", TEXT, "--max-new-tokens", 3, "--json")
    assert output.code == 0 and output.json["tokens"] == 3
