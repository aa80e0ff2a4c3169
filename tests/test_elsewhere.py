"""A node is opened by everyone's tools, where there is no Journey."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from journey import chat
from journey.model import huggingface
from journey.tokenizer.formats import Tokenizer

pytestmark = pytest.mark.slow  # each node is opened in a process that imports transformers anew

MODELS = ("base", "coder", "chat", "preferred")
MESSAGES = [{"role": "user", "content": "What does the array do?"}, {"role": "assistant", "content": "It sorts."}]
TEXT = "The small array"
ANSWERS = ("chosen", "rejected")
PLAIN = {".json", ".jsonl", ".safetensors", ".parquet", ".jinja", ".md"}

# Isolated, and with a door in front of the one package that must not be needed.
DOOR = """
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
asked = json.load(sys.stdin)
"""
MODEL = """
from transformers import AutoModelForCausalLM, AutoTokenizer

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


# llama.cpp's own server answers over HTTP, from the template, the tokenizer and the stop tokens in the file alone.
FILES = """
import contextlib, os, urllib.request
from pathlib import Path
import numpy as np
import xllamacpp
from gguf import GGUFReader

found = {}
for file in asked["files"]:
    reader = GGUFReader(file)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx, parameters.warmup, parameters.cpuparams.n_threads = 64, False, 1
    server = xllamacpp.Server(parameters)

    def post(path, body):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    messages = asked["messages"][:1]
    prompt = post("/apply-template", {"messages": messages})["prompt"]
    ids = post("/tokenize", {"content": prompt, "parse_special": True, "add_special": False})["tokens"]
    greedy = {"n_predict": 12, "temperature": 0, "samplers": ["temperature"], "cache_prompt": False}
    written = post("/completion", {"prompt": ids, "return_tokens": True, **greedy})
    said = post("/v1/chat/completions", {"messages": messages, "max_tokens": 12, "temperature": 0})
    found[Path(file).name] = {
        "architecture": fields["general.architecture"],
        "template": fields["tokenizer.chat_template"],
        "vocabulary": len(fields["tokenizer.ggml.tokens"]),
        "numbers": sum(int(np.prod(tensor.shape)) for tensor in reader.tensors),
        "types": sorted({tensor.tensor_type.name for tensor in reader.tensors}),
        "prompt": ids,
        "written": written["tokens"],
        "stopped": written["stop_type"],
        "answer": said["choices"][0]["message"]["content"],
    }
with open(asked["out"], "w") as out:  # stdout is llama.cpp's
    json.dump(found, out)
"""
PAIRS = """
from datasets import load_dataset
from transformers import AutoTokenizer
from trl.data_utils import is_conversational, maybe_apply_chat_template

data = load_dataset("json", data_files=asked["files"], cache_dir=asked["out"])
tokenizer = AutoTokenizer.from_pretrained(asked["folder"])

def ids(row, answer):
    text = maybe_apply_chat_template(row, tokenizer)
    return tokenizer(text["prompt"] + text[answer], add_special_tokens=False).input_ids

print(json.dumps({
    split: {
        "columns": part.column_names,
        "conversational": [is_conversational(row) for row in part],
        "ids": [[ids(row, answer) for answer in ("chosen", "rejected")] for row in part],
        "rows": [row for row in part],
    }
    for split, part in data.items()
}))
"""
SEARCH = """
import sqlite3
import numpy as np

database = sqlite3.connect(f"file:{asked['folder']}/index.sqlite?mode=ro", uri=True)
vectors = np.load(asked["folder"] + "/vectors.npy", allow_pickle=False)
with np.load(asked["folder"] + "/encoder.npz", allow_pickle=False) as encoder:
    encoder = {name: encoder[name].dtype.str for name in encoder}
match = "SELECT rowid FROM terms WHERE terms MATCH ? ORDER BY rank, rowid LIMIT 5"
print(json.dumps({
    "check": database.execute("PRAGMA integrity_check").fetchall(),
    "passages": database.execute("SELECT row, id, title, text FROM passages ORDER BY row").fetchall(),
    "hits": [row for row, in database.execute(match, [asked["word"]])],
    "shape": vectors.shape,
    "type": vectors.dtype.str,
    "norms": np.linalg.norm(vectors, axis=1).tolist(),
    "nearest": np.argsort(-vectors @ vectors[0])[:3].tolist(),
    "encoder": encoder,
}))
"""


def elsewhere(code, **asked):
    """The lines that some code prints in another process, where there is no Journey."""
    command = [sys.executable, "-I", "-c", DOOR + code]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def seen(life):
    """What another process, without Journey, sees in each model node."""
    folders = [str(life.node(name).path) for name in MODELS]
    lines = elsewhere(MODEL, folders=folders, messages=MESSAGES, text=TEXT)
    return dict(zip(MODELS, map(json.loads, lines), strict=True))


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
        there = {path.name for path in life.node(name).path.iterdir() if path.name[0] != "."}
        more = {"dpo.json", "pairs-test.jsonl"} if name == "preferred" else set()
        assert (
            there == files | {"generation_config.json", "README.md", "lineage.json", "history.json", "log.jsonl"} | more
        )


def test_a_gguf_file_is_run_by_llama_cpp_as_it_is(life, tmp_path):
    """Read by the format's own package, and served: the same prompt, the same greedy tokens, the same end."""
    from journey.infer.engine import generate

    node, parent = life.node("gguf").path, life.node("preferred").path
    files = sorted(map(str, node.glob("*.gguf")))
    elsewhere(FILES, files=files, messages=MESSAGES, out=str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.keys() == {"gguf-f16.gguf", "gguf-q8_0.gguf"}
    tokenizer, model = Tokenizer.load(parent), huggingface.load(parent).eval()
    prompt = chat.encode_prompt(MESSAGES[:1], tokenizer)
    (ours,) = generate(model, [prompt], max_new_tokens=12, stop=tokenizer.stop)
    for name, file in found.items():
        assert file["architecture"] == "qwen3" and file["vocabulary"] == tokenizer.vocab_size
        assert file["numbers"] == sum(parameter.numel() for parameter in model.parameters())
        assert file["template"] == (parent / "chat_template.jinja").read_text()
        assert file["prompt"] == prompt, name
    assert found["gguf-f16.gguf"]["types"] == ["F16", "F32"] and found["gguf-q8_0.gguf"]["types"] == ["F32", "Q8_0"]
    exact = found["gguf-f16.gguf"]
    written = [token for token in ours.ids if token not in tokenizer.stop]
    assert [token for token in exact["written"] if token not in tokenizer.stop] == written
    assert exact["stopped"] == ("eos" if ours.ended else "limit")
    assert exact["answer"].strip() == tokenizer.decode(written).strip()


def test_pairs_are_a_data_set_that_trl_takes(life, tmp_path):
    node = life.node("pairs").path
    files = {split: str(node / f"pairs-{split}.jsonl") for split in ("train", "dev", "test")}
    (line,) = elsewhere(PAIRS, files=files, folder=str(life.node("chat").path), out=str(tmp_path))
    found, tokenizer = json.loads(line), Tokenizer.load(life.node("chat").path)
    prompts = []
    for split, part in found.items():
        assert part["columns"] == ["id", "prompt", "chosen", "rejected", "chosen_score", "rejected_score"]
        assert part["rows"] and all(part["conversational"])
        assert part["rows"] == [json.loads(line) for line in Path(files[split]).read_text().splitlines()]
        expected = []
        for row in part["rows"]:
            assert row["prompt"][-1]["role"] == "user" and row["chosen"] != row["rejected"]
            assert [m["role"] for m in row["chosen"]] == [m["role"] for m in row["rejected"]] == ["assistant"]
            assert row["chosen_score"] > row["rejected_score"]
            # By TRL, with the node's own template and tokenizer.
            expected.append([chat.render([*row["prompt"], *row[answer]], tokenizer)[0] for answer in ANSWERS])
        assert part["ids"] == expected
        prompts += [json.dumps(row["prompt"]) for row in part["rows"]]
    assert len(prompts) == len(set(prompts))  # no question in two splits


def test_an_index_is_searched_with_sqlite_and_numpy(life):
    text = json.loads((life.texts / "prose.jsonl").read_text().splitlines()[0])["text"]
    number = next(number for number in re.findall(r"\d+", text) if int(number) > 400)  # no document's own number
    (line,) = elsewhere(SEARCH, folder=str(life.node("index").path), word=number)
    found = json.loads(line)
    assert found["check"] == [["ok"]]
    rows = [row for row, *_ in found["passages"]]
    assert rows == list(range(400)) and found["shape"] == [400, 32] and found["type"] == "<f4"
    assert found["norms"] == pytest.approx([1] * 400, abs=1e-5)
    assert found["nearest"][0] == 0  # a passage is nearest to itself
    assert all(type[1] in "fi" for type in found["encoder"].values())
    texts = [text for *_, text in found["passages"]]
    assert found["hits"] and all(number in re.findall(r"\d+", texts[row]) for row in found["hits"])
    assert any(text.startswith(texts[row][:100]) for row in found["hits"])


def test_there_is_no_pickle_in_a_node(life):
    """Neither by name nor by content: a pickle runs code when it is opened."""
    files = [path for path in (life.workspace / "nodes").rglob("*") if path.is_file()]
    assert len(files) > 50 and {path.suffix for path in files} > {".gguf", ".sqlite", ".npy", ".npz"}
    for path in files:
        assert path.suffix in {*PLAIN, ".gguf", ".sqlite", ".npy", ".npz"}
        if path.suffix in (".npy", ".npz"):  # a zip of arrays, or one: objects in them would be pickles
            with open(path, "rb") as file:
                loaded = np.load(file, allow_pickle=False)
                arrays = [loaded] if path.suffix == ".npy" else [loaded[name] for name in loaded]
                assert arrays and not any(array.dtype.hasobject for array in arrays)
        else:
            assert not zipfile.is_zipfile(path)
        head = path.read_bytes()[:2]
        assert not (head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")), path


def test_a_node_is_a_parent_wherever_it_stands(life, journey, tmp_path):
    """A folder that was moved, lineage and all, is taken as it is."""
    shutil.copytree(life.node("base").path, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "lineage.json").unlink()  # as a folder from the Hub
    output = journey("generate", tmp_path / "elsewhere", TEXT, "--max-new-tokens", 3, "--json")
    assert output.code == 0 and output.json["tokens"] == 3
