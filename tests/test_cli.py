"""The command line as people and programs meet it."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from journey import cli
from journey.errors import JourneyError
from journey.verbs import life as life_verbs

NAMES = ["prose", "code", "tokenizer", "base", "coder", "chat", "pairs", "preferred", "gguf", "index"]
SHAPE = {"ok", "verb", "node", "path", "metrics", "error"}
METRIC = {"value", "low", "high", "n", "unit", "convention"}
HEAVY = ("torch", "transformers", "trl", "tyro", "tokenizers", "gguf", "xllamacpp", "pyarrow", "rich", "numpy")


def imported(*arguments, beside=()):
    """Exit code, and which heavy packages one command line imports."""
    code = (
        "import sys; from journey.cli import main; code = main(sys.argv[1:]);"
        f"print(code, *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    code, *names = done.stderr.splitlines()[-1].split()
    return int(code), set(names), done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_help_is_quick_because_it_imports_nothing(arguments):
    code, names, _ = imported(*arguments)
    assert code == 0 and names == set()


@pytest.mark.parametrize(
    "verb",
    [
        *("run", "generate", "ask", "pretrain", "sft", "lora", "merge"),
        *("pairs", "dpo", "quantize", "index", "import", "eval", "bench"),
    ],
)
def test_the_help_of_a_verb_imports_no_torch(verb):
    code, names, text = imported(verb, "--help")
    assert code == 0 and not names & {"torch", "transformers", "trl", "tokenizers", "gguf", "xllamacpp"}
    assert "--json" in text and f"journey {verb}" in text


def test_a_second_run_says_so_without_torch(life):
    code, names, text = imported("run", life.recipe, "--workspace", life.workspace)
    assert code == 0 and "nothing to do" in text
    assert not names & {"torch", "transformers", "trl", "tokenizers", "rich"}


def test_the_overview_names_every_verb_and_every_verb_has_a_manual_with_examples(journey):
    overview = journey("--help").out
    for verb in cli.VERBS:
        assert re.search(rf"^  {verb} ", overview, re.MULTILINE)
        found = journey(verb, "--help")
        assert found.code == 0 and f"journey {verb}" in found.out and "--json" in found.out


def test_verbs_and_stages_are_those_that_there_are():
    from journey.stages import STAGES

    words = [(verb, second) for verb in cli.VERBS for second in cli.SECOND.get(verb, [""])]
    called = [cli.function_of(*each) for each in words]
    assert all(callable(function) for function, _ in called)
    assert {stage for _, stage in called if stage} == set(STAGES)


def whole(answer, verb, ok=True):
    assert answer.keys() >= SHAPE and answer["verb"] == verb and answer["ok"] is ok
    for metric in answer["metrics"].values():
        assert metric.keys() >= METRIC and isinstance(metric["value"], int | float)
    assert (answer["error"] is None) == ok
    return answer


def calls(life):
    """Each verb with arguments that it can work with on the small life."""
    at = ("--workspace", life.workspace)
    return {
        "run": (life.recipe, *at),
        "tree": at,
        "report": at,
        "eval": ("base", *at),
        "diff": ("base", "chat", *at),
        "generate": ("base", "The small", "--max-new-tokens", 5, *at),
        "chat": ("chat", "--max-new-tokens", 5, *at),
        "ask": ("What does the small array do?", "--max-new-tokens", 5, *at),
    }


@pytest.mark.parametrize("verb", ["run", "tree", "report", "eval", "diff", "generate", "chat", "ask"])
def test_json_is_one_object_on_the_last_line_and_people_read_stderr(life, journey, monkeypatch, verb):
    monkeypatch.setattr("sys.stdin", io.StringIO("What does the array do?\n/reset\n"))
    output = journey(verb, *calls(life)[verb], "--json")
    assert output.code == 0, output.err
    assert len(output.out.splitlines()) == 1  # nothing else stands on stdout
    answer = whole(output.json, verb)
    if verb in ("run", "eval", "diff", "generate", "chat", "ask"):
        assert re.fullmatch("[0-9a-f]{64}", answer["node"])
    if verb in ("run", "tree", "report"):
        assert answer["path"]
    if verb in ("run", "eval", "diff"):
        assert answer["metrics"]


def test_doctor_speaks_json_too(journey):
    output = journey("doctor", "--json")
    whole(output.json, "doctor", ok=output.code == 0)


def test_a_measured_number_comes_with_its_interval(life, journey):
    found = journey("eval", "base", "--workspace", life.workspace, "--json").json["metrics"]["bits_per_byte.prose"]
    assert found["low"] < found["value"] < found["high"] and found["n"] > 5 and found["convention"]


def test_tree_json_has_the_nodes_and_their_parents(life, journey):
    nodes = journey("tree", "--workspace", life.workspace, "--json").json["nodes"]
    assert [node["name"] for node in nodes] == NAMES
    ids = {node["id"]: node["name"] for node in nodes}
    for node in nodes:
        assert {"id", "name", "stage", "parents", "path", "metrics"} <= node.keys()
        assert all(parent in ids for parent in node["parents"])
    parents = {node["name"]: [ids[parent] for parent in node["parents"]] for node in nodes}
    assert parents["coder"] == ["base", "code", "prose"]
    assert parents["pairs"] == ["chat"] and parents["preferred"] == ["chat", "pairs"]
    assert parents["gguf"] == ["preferred"] and parents["index"] == ["preferred", "prose"]


def test_tree_draws_each_node_under_its_parent(life, journey):
    lines = journey("tree", "--workspace", life.workspace).out.splitlines()
    indents = {re.search(r"\w+", line)[0]: len(re.match(r"[│├└─ ]*", line)[0]) for line in lines}
    assert indents.keys() == set(NAMES)
    assert indents["tokenizer"] < indents["base"] < indents["coder"] < indents["chat"] < indents["preferred"]
    assert indents["pairs"] == indents["preferred"] < indents["gguf"] == indents["index"]
    assert "bits/byte" in next(line for line in lines if "chat" in line)


def test_tree_shows_what_is_not_made_yet(copy, journey):
    shutil.rmtree(copy.node("chat").path)
    assert "not made yet" in journey("tree", "--workspace", copy.workspace).out
    nodes = journey("tree", "--workspace", copy.workspace, "--json").json["nodes"]
    assert [node["name"] for node in nodes if not node["made"]] == ["chat"]


FAILURES = {
    "run": ("nowhere.yaml",),
    "tree": ("--workspace", "nowhere"),
    "report": ("--workspace", "nowhere"),
    "eval": ("base", "--workspace", "nowhere"),
    "diff": ("base", "chat", "--workspace", "nowhere"),
    "generate": ("base", "x", "--workspace", "nowhere"),
    "chat": ("base", "--workspace", "nowhere"),
    "text": ("--source", "nowhere", "--out", "out"),
    "tokenizer": ("train", "--data", "nowhere", "--out", "out"),
    "pretrain": ("--out", "out"),
    "continue": ("--parent", "nowhere", "--out", "out"),
    "sft": ("--parent", "nowhere", "--out", "out"),
    "ask": ("What is it?", "--workspace", "nowhere"),
    "pairs": ("--parent", "nowhere", "--out", "out"),
    "dpo": ("nowhere", "--out", "out"),
    "quantize": ("--out", "out"),
    "index": ("nowhere", "--out", "out"),
    "import": ("nowhere", "--out", "out"),
    "runn": (),
}


@pytest.mark.parametrize("verb", FAILURES)
def test_bad_input_is_one_line_exit_code_2_and_the_same_json(journey, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    plain = journey(verb, *FAILURES[verb])
    assert plain.code == 2 and plain.out == ""
    *shown, error = plain.err.splitlines()
    assert error.startswith(f"journey {verb}: ") and len(shown) <= 1  # what it was at
    answer = whole(journey(verb, *FAILURES[verb], "--json").json, verb, ok=False)
    assert answer["error"] in plain.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["run", "--nonsense"], ["generate"], ["generate", "base", "x", "--top-k", "many"], ["eval", "--json"]]
)
def test_arguments_that_do_not_fit_are_exit_code_2(journey, arguments):
    assert journey(*arguments).code == 2
    whole(journey(*arguments, "--json").json, arguments[0], ok=False)


def test_an_unknown_verb_names_the_nearest(journey):
    assert 'did you mean "generate"' in journey("generat", "base").err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "tokenizer", "x"], "holds no weights: it is a tokenizer node"),
        (["generate", "base", "word " * 400], "the context is 64: shorten it by"),
        (["generate", "bas", "x"], 'no node "bas"'),
        (["chat", "chat", "--max-new-tokens", "64"], "no room for a question"),
        (["eval", "prose"], "prose is a text: no measure is taken of such a node"),
        (["diff", "base", "code"], "has not been measured"),
        (["diff", "preferred", "gguf"], 'nothing was measured at both "preferred" and "gguf"'),
        (["generate", "gguf", "x"], "holds no weights: it is a quantize node"),
        (["chat", "index"], "holds no weights"),
    ],
)
def test_what_cannot_be_done_is_told(life, journey, arguments, said):
    output = journey(*arguments, "--workspace", life.workspace)
    assert output.code == 2 and said in output.err and len(output.err.splitlines()) == 1


def test_a_cut_off_weights_file_is_told_and_not_touched(copy, journey):
    weights = copy.node("base").path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    output = journey("generate", "base", "x", "--workspace", copy.workspace)
    assert output.code == 2 and str(weights) in output.err and len(output.err.splitlines()) == 1
    assert weights.stat().st_size == 1000


BAD_RUNS = {
    "vocabulary": (["--set", "stages.tokenizer.vocab_size=100_000"], "is too large for this corpus: at most"),
    "small vocabulary": (["--set", "stages.tokenizer.vocab_size=5"], "is too small"),
    "empty": (["--set", "stages.prose.max_bytes=0"], "max_bytes: must be at least 1, not 0"),
    "shares": (["--set", "stages.prose.test=0.9"], "are shares of the documents"),
    "no clipping": (["--set", "stages.base.clip=-1"], "clip: must be at least 0, not -1.0"),
    "no number": (["--set", "stages.coder.lr=.nan"], "lr: must be at least 0, not nan"),
    "no text": (["--set", "stages.prose.source=nowhere"], "no such text: nowhere"),
    "tokens": (["--set", "stages.base.tokens=5"], "is less than one step"),
    "accumulate": (["--set", "stages.base.accumulate=3"], "is not a multiple of accumulate 3"),
    "no batch": (["--set", "stages.base.batch_size=0"], "batch_size: must be at least 1, not 0"),
    "no evaluation": (["--set", "stages.base.evaluations=0"], "evaluations: must be at least 1, not 0"),
    "heads": (["--set", "stages.base.n_head=5"], "n_embd 32 is not a multiple of n_head 5"),
    "context": (["--set", "stages.base.n_ctx=1_000_000"], "too few for one row"),
    "replay": (["--set", "stages.coder.replay=1.5"], "replay: must be at least 0 and below 1, not 1.5"),
    "nothing to replay": (["--set", "stages.coder.replay_data="], "replay"),
    "rate": (["--set", "stages.base.lr=1e30"], "is not a number at step"),
    "ranks nothing": (["--set", "stages.pairs.margin=1.1"], "margin: must be at least 0 and at most 1, not 1.1"),
    "one sample": (["--set", "stages.pairs.samples=1"], "samples: must be at least 2, not 1"),
    "always the same": (["--set", "stages.pairs.temperature=0"], "temperature: must be above 0, not 0.0"),
    "no room": (["--set", "stages.pairs.max_new_tokens=64"], "leaves no room in a context of 64"),
    "beta": (["--set", "stages.preferred.beta=0"], "beta: must be above 0, not 0.0"),
    "no preferences": (["--set", "stages.preferred.data=''"], "dpo needs preferences"),
    "other preferences": (["--set", "stages.preferred.data=prose"], 'did you mean "pairs"?'),
    "dpo's rate": (["--set", "stages.preferred.lr=1e30"], "is not a number at step 2: choose a smaller lr"),
    "gguf type": (["--set", "stages.gguf.types=[f16,q4_1]"], 'unknown GGUF type "q4_1", did you mean "q4_0"'),
    "gguf of no model": (["--set", "stages.gguf.parents=[pairs]"], "is pairs, the stage quantize goes on from a model"),
    "embedder": (["--set", "stages.index.embedder=nowhere"], "is no folder of a sentence-transformers model"),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_a_setting_that_cannot_work_is_one_line_and_what_was_made_stays(copy, journey, case):
    settings, said = BAD_RUNS[case]
    before = {path.name: path.stat().st_ino for path in (copy.workspace / "nodes").iterdir()}
    output = journey("run", copy.recipe, "--workspace", copy.workspace, *settings, "--json")
    assert output.code == 2 and said in output.json["error"] and "\n" not in output.json["error"]
    assert "Traceback" not in output.err
    after = {path.name: path.stat().st_ino for path in (copy.workspace / "nodes").iterdir() if path.name[0] != "."}
    assert before.items() <= after.items()


def test_special_spellings_in_a_text_are_counted_and_stay_text(copy, journey, tmp_path):
    """`<|end|>` in a corpus must not teach the model to stop: its bytes are text, and its number is said."""
    with open(copy.texts / "prose.jsonl") as file:
        lines = [json.loads(line) for line in file]
    for line in lines[:50]:
        line["text"] = "<|end|>" + line["text"] + "<|endoftext|>"
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = [
        "run",
        copy.recipe,
        "--workspace",
        copy.workspace,
        "--until",
        "base",
        "--set",
        f"stages.prose.source={mine}",
    ]
    output = journey(*arguments, "--set", "stages.base.tokens=512", "--json")
    assert output.code == 0, output.err
    plan = {entry["name"]: entry for entry in json.loads((copy.workspace / "plan.json").read_text())["stages"]}
    facts = json.loads((copy.workspace / plan["prose"]["path"] / "corpus.json").read_text())
    assert facts["special_spellings"] == 100

    from journey.data.corpus import Corpus
    from journey.tokenizer.formats import Tokenizer

    tokenizer = Tokenizer.load(copy.workspace / plan["base"]["path"])
    texts = Corpus(copy.workspace / plan["prose"]["path"]).texts("train")
    assert any("<|end|>" in text for text in texts)
    for ids, text in zip(tokenizer.encode_batch(texts), texts, strict=True):
        assert not set(ids) & set(tokenizer.special.values())
        assert tokenizer.decode(ids) == text


def test_a_mistake_of_ours_is_a_line_too_and_names_the_file_that_says_where(journey, monkeypatch):
    def fail(*arguments, **more):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(life_verbs, "home", fail)
    output = journey("tree", "--json")
    assert output.code == 1 and len(output.err.splitlines()) == 1
    said = whole(output.json, "tree", ok=False)["error"]
    assert said.startswith("a fault of Journey's own (RuntimeError: first line): please report it with ")
    where = Path(said.rpartition(" ")[2])
    assert "Traceback" in where.read_text() and "second line" in where.read_text()
    where.unlink()


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt, 1), (JourneyError, 2)])
def test_how_a_command_ends(journey, monkeypatch, raised, code):
    def fail(*arguments, **more):
        raise raised("x")

    monkeypatch.setattr(life_verbs, "home", fail)
    assert journey("tree").code == code


def test_a_closed_pipe_is_no_traceback(life):
    """`journey tree | head`"""
    command = f"{sys.executable} -c 'from journey.cli import entry; entry()' tree --workspace {life.workspace} | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_generate_writes_the_prompt_and_goes_on(life, journey):
    arguments = ("generate", "base", "The small", "--max-new-tokens", 8, "--workspace", life.workspace)
    first, second = journey(*arguments), journey(*arguments)
    assert first.code == 0 and first.out.startswith("The small") and len(first.out) > 12
    assert first.out == second.out != journey(*arguments, "--seed", 1).out
    answer = journey(*arguments, "--json").json
    assert first.out == answer["prompt"] + answer["text"] + "\n" and answer["tokens"] == 8


def test_the_only_journey_here_is_the_one_that_is_meant(copy, journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no journey here" in journey("tree").err
    (tmp_path / "journeys").mkdir()
    copy.workspace.rename(tmp_path / "journeys" / "one")
    assert journey("tree").code == 0
    (tmp_path / "journeys" / "two").mkdir()
    (tmp_path / "journeys" / "two" / "plan.json").write_text("{}")
    assert "several journeys are here: say --workspace journeys/one or journeys/two" in journey("tree").err


def test_every_stage_is_a_verb_with_the_same_call(life, journey, tmp_path):
    """Text, tokenizer and model by the command line alone; the second time each stands already."""
    text, tok, base = (tmp_path / name for name in ("text", "tok", "base"))
    lines = {
        "text": ("--source", life.texts / "prose.jsonl", "--seed", 3, "--out", text),
        "tokenizer": ("train", "--data", text, "--vocab-size", 400, "--seed", 3, "--out", tok),
        "pretrain": (
            "--parent",
            tok,
            "--data",
            text,
            "--n-layer",
            1,
            "--n-embd",
            32,
            "--n-ctx",
            64,
            "--tokens",
            512,
            "--out",
            base,
        ),
    }
    for verb, arguments in lines.items():
        answer = whole(journey(verb, *arguments, "--json").json, verb)
        again = whole(journey(verb, *arguments, "--json").json, verb)
        assert again == answer and answer["path"] == str(arguments[-1])
    assert text.is_dir() and (base / "model.safetensors").exists()
    # The recipe made the same text and tokenizer of the same inputs: the same ids.
    ids = [json.loads((folder / "lineage.json").read_text())["id"] for folder in (text, tok)]
    assert ids == [life.node("prose").id, life.node("tokenizer").id]


def test_a_stage_of_the_journey_is_named_where_a_text_is_wanted(life, journey, tmp_path, monkeypatch):
    """`journey data prepare tokenizer --data prose`, then `journey pretrain tokenizer --data tokens/`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prose").mkdir()  # a folder of that name is meant by `prose/`
    at = ("--workspace", life.workspace)
    output = journey("data", "prepare", "tokenizer", "--data", "prose", "--out", "tokens", *at)
    assert output.code == 0, output.err
    lineage = json.loads((tmp_path / "tokens" / "lineage.json").read_text())
    assert lineage["data"]["data"]["id"] == life.node("prose").id
    config = life.node("base").lineage["config"]
    sizes = [f"--{key.replace('_', '-')}={config[key]}" for key in ("n_layer", "n_embd", "n_ctx", "tokens")]
    more = (*sizes, "--evaluations", config["evaluations"], "--seed", 3, "--out", "base", *at)
    assert journey("pretrain", "tokenizer", "--data", "tokens", *more).code == 0
    made = json.loads((tmp_path / "base" / "lineage.json").read_text())
    assert made["weights_sha256"] == life.node("base").lineage["weights_sha256"]
    folder = journey("data", "prepare", "tokenizer", "--data", "prose/", "--out", "other", *at)
    assert folder.code == 2 and "no text in this folder" in folder.err
    nobody = journey("data", "prepare", "tokenizer", "--data", "prsoe", "--out", "other", *at)
    assert nobody.code == 2 and "no such text: prsoe" in nobody.err


def test_a_stage_does_not_write_over_what_is_there(life, journey, tmp_path):
    (tmp_path / "mine.txt").write_text("dear")
    output = journey("text", "--source", life.texts / "prose.jsonl", "--out", tmp_path)
    assert output.code == 2 and "exists and is not a node" in output.err
    output = journey("text", "--source", life.texts / "code.jsonl", "--out", life.node("prose").path)
    assert output.code == 2 and "already holds another node" in output.err
    assert (tmp_path / "mine.txt").read_text() == "dear"


def lines_of_the_later_stages(life, tmp_path):
    """What `pairs`, `dpo`, `quantize` and `index` need to make what the recipe made, each after those before it."""
    at, pairs = ("--seed", 3, "--workspace", life.workspace), tmp_path / "pairs"
    asking = ("--data", life.texts / "asked.jsonl", "--max-questions", 60, "--samples", 6)
    return {
        "pairs": ("--parent", "chat", *asking, "--max-new-tokens", 32, "--margin", 0, *at, "--out", pairs),
        "dpo": ("chat", "--data", pairs, "--batch-size", 4, "--evaluations", 2, *at, "--out", tmp_path / "preferred"),
        "quantize": (life.node("preferred").path, "--types", "f16", "q8_0", *at, "--out", tmp_path / "gguf"),
        "index": (
            "preferred",
            "--data",
            life.node("prose").path,
            "--embedder",
            "node",
            *at,
            "--out",
            tmp_path / "index",
        ),
    }


def test_the_later_stages_too_make_what_the_recipe_made(life, journey, tmp_path):
    for verb, arguments in lines_of_the_later_stages(life, tmp_path).items():
        output = journey(verb, *arguments, "--json")
        assert output.code == 0, output.err
        answer, out = whole(output.json, verb), arguments[-1]
        again = journey(verb, *arguments, "--json")  # the second time it stands already
        assert again.json == answer and answer["path"] == str(out)
        ours, theirs = json.loads((out / "lineage.json").read_text()), life.node(out.name).lineage
        assert ours["id"] == theirs["id"] == answer["node"]
        assert ours["weights_sha256"] == theirs["weights_sha256"] and ours["metrics"] == theirs["metrics"]
        card = {"README.md", "index.json", "log.jsonl"}  # names are a folder's here, a stage's there; the clock's word
        assert {k: v for k, v in ours["files"].items() if k not in card} == {
            k: v for k, v in theirs["files"].items() if k not in card
        }
    assert {path.name for path in tmp_path.iterdir()} == {"pairs", "preferred", "gguf", "index"}


@pytest.fixture
def badly(life, tmp_path):
    """Files and folders that a later stage cannot work with."""
    import torch

    from journey.model import huggingface
    from journey.model.config import GPTConfig
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer

    same = {"prompt": "Which one?", "chosen": "This one.", "rejected": "This one."}
    (tmp_path / "same.jsonl").write_text(f"{json.dumps(same)}\n" * 3)
    (tmp_path / "broken.jsonl").write_text('{"prompt": "Which one?", "chosen": "This one."}\n')
    (tmp_path / "empty.jsonl").write_text("")
    unasked = {"messages": [{"role": "assistant", "content": "Hello."}]}
    (tmp_path / "unasked.jsonl").write_text(f"{json.dumps(unasked)}\n" * 30)
    tokenizer = Tokenizer.load(life.node("chat").path)
    torch.manual_seed(0)
    huggingface.save(GPT(GPTConfig.make("gpt2", tokenizer.vocab_size, 16, 1, 40, n_head=2)), tmp_path / "odd")
    tokenizer.save(tmp_path / "odd")
    return tmp_path


LATER = {
    "dpo, no data": ("dpo chat", "dpo needs preferences: set data to"),
    "dpo, no file": ("dpo chat --data nowhere.jsonl", "nowhere.jsonl does not exist"),
    "dpo, no folder": ("dpo chat --data nowhere", "is no folder of a pairs node and no file"),
    "dpo, a text": ("dpo chat --data {prose}", "is a text node: data must be a pairs node"),
    "dpo, a model": ("dpo chat --data {chat}", "is a sft node: data must be a pairs node"),
    "dpo, identical": (
        "dpo chat --data {here}/same.jsonl",
        "the two answers are equal; none of the 3 rows can be used",
    ),
    "dpo, half": ("dpo chat --data {here}/broken.jsonl", "broken.jsonl, line 1: holds prompt, chosen; expected"),
    "dpo, nothing": ("dpo chat --data {here}/empty.jsonl", "no preferences in this file"),
    "dpo of no model": ("dpo tokenizer --data {pairs}", "is a tokenizer node: dpo goes on from a model"),
    "pairs, no file": ("pairs chat --data nowhere.jsonl", "nowhere.jsonl does not exist"),
    "pairs, a text": ("pairs chat --max-new-tokens 32 --data {prose}", "has no questions"),
    "pairs, unasked": (
        "pairs chat --max-new-tokens 32 --data {here}/unasked.jsonl",
        "line 1: the assistant speaks first, and answers nobody later; none of the 30 rows can be used",
    ),
    "pairs of no model": ("pairs gguf --data {asked}", "is a quantize node: pairs goes on from a model"),
    "quantize, type": ("quantize chat --types q4_1", 'unknown GGUF type "q4_1", did you mean "q4_0"'),
    "quantize, shape": (
        "quantize {here}/odd --types f16 q4_0",
        "q4_0 packs rows in blocks of 32, but token_embd.weight is 400 x 40: possible here are f32 and f16",
    ),
    "quantize no model": ("quantize prose", "is a text node: quantize goes on from a model"),
    "quantize nothing": ("quantize", "--parent NODE is missing"),
    "index, pairs": ("index chat --data {pairs}", "is a pairs node: data must be a text node"),
    "index, embedder": (
        "index chat --data {prose} --embedder nowhere",
        "is no folder of a sentence-transformers model",
    ),
    "index of no model": ("index code --data {prose}", "is a text node: index goes on from a model"),
    "import": ("import nowhere", "nowhere does not exist: give the path of a checkpoint"),
    "import a text": ("import {asked} --tokenizer {tokenizer}", "asked.jsonl"),
}


@pytest.mark.parametrize("case", LATER)
def test_what_a_later_stage_cannot_work_with_is_one_line_and_nothing_is_left(life, journey, badly, case):
    line, said = LATER[case]
    places = {name: life.node(name).path for name in ("prose", "chat", "pairs", "tokenizer")}
    arguments = line.format(here=badly, asked=life.texts / "asked.jsonl", **places).split()
    before = {path: path.stat().st_mtime_ns for path in badly.rglob("*")}
    output = journey(*arguments, "--workspace", life.workspace, "--out", badly / "out", "--json")
    assert output.code == 2, output.err
    error = whole(output.json, arguments[0], ok=False)["error"]
    assert said in error and "\n" not in error and "Traceback" not in output.err
    assert {path: path.stat().st_mtime_ns for path in badly.rglob("*")} == before


def asked(journey, question, life, *arguments):
    return journey("ask", question, "--max-new-tokens", 12, *arguments, "--workspace", life.workspace)


def number_in(life):
    """A question that names what few passages have."""
    from journey.data.corpus import Corpus

    text = Corpus(life.node("prose").path).texts("train")[0]
    number = next(number for number in re.findall("[0-9]+", text) if int(number) > 400)  # no document's own number
    return text, f"Which file has number {number}?"


def test_ask_answers_and_shows_its_sources(life, journey):
    text, question = number_in(life)
    plain, answer = asked(journey, question, life), whole(asked(journey, question, life, "--json").json, "ask")
    assert plain.code == 0
    assert answer["node"] == life.node("preferred").id
    assert 1 <= len(answer["sources"]) <= 5 and answer["used"] == 1
    for source in answer["sources"]:
        assert source.keys() >= {"title", "text", "score"} and source.keys() & {"bm25", "vectors"}
    assert any(source["text"] in text for source in answer["sources"])
    scores = [source["score"] for source in answer["sources"]]
    assert scores == sorted(scores, reverse=True) and answer["search_ms"] > 0
    said, _, sources = plain.out.rpartition("\n\n")
    assert said.strip() == answer["answer"].strip()
    sources = sources.splitlines()
    for number, source in enumerate(answer["sources"], 1):
        (line,) = [line for line in sources if line.startswith(f"[{number}] {source['title']}")]
        assert ("in the prompt" in line) == (number == 1) and f"{source['score']:.4f}" in line


def test_ask_from_the_weights_alone(life, journey):
    """`--passages 0` still says what there would be; the prompt holds none of it, so the text makes no difference."""
    _, question = number_in(life)
    answer = asked(journey, question, life, "--passages", 0, "--json").json
    assert answer["used"] == 0 and answer["sources"]
    assert answer["answer"] == asked(journey, question, life, "--passages", 0, "--json").json["answer"]


@pytest.mark.parametrize("question", ["🦄🦄", "zzzzqqqq xxyyzz", "?!", "()"])
def test_a_question_that_finds_nothing_is_answered_and_that_is_said(life, journey, question):
    output = asked(journey, question, life, "--json")
    assert output.code == 0, output.err
    assert output.json["sources"] == [] and output.json["used"] == 0
    assert output.json["notes"] == [
        "nothing in the index has to do with this question: the answer comes from the weights alone"
    ]
    assert "(nothing in the index has to do with this question" in asked(journey, question, life).out


def test_words_that_the_text_lacks_do_not_hide_those_it_has(life, journey):
    """Here "array" is in many passages, and "what", "does" and "do" are in none: those must not be what is found by."""
    answer = asked(journey, "What does the small array do?", life, "--json").json
    assert answer["sources"] and "array" in answer["sources"][0]["text"]


@pytest.mark.parametrize(
    "question",
    [
        '" OR NEAR(a, *',
        "-- '; DROP TABLE passages; --",
        "a AND NOT b*",
        "words:^x",
        "<|end|>",
        "\x1b[31mred\x1b[0m\r\x07",
        "a\x00b",
    ],
)
def test_a_hostile_question_is_only_words(life, journey, question):
    index = life.node("index").path / "index.sqlite"
    before = index.read_bytes()
    for form in ([], ["--json"]):
        output = asked(journey, question, life, *form)
        assert output.code == 0, output.err
        assert not {"\x1b", "\x07", "\x00"} & set(output.out)
    assert index.read_bytes() == before and set(index.parent.glob("index.sqlite*")) == {index}


def test_an_answer_cannot_write_to_the_terminal(life, journey, monkeypatch):
    """What a model says may hold anything; programs get it as it is, people see what can be seen."""
    from journey.retrieve.answer import Reply

    said = "\x1b[2J red \x07 and \x1b]0;title\x07"
    monkeypatch.setattr(Reply, "stream", lambda reply, model, tokenizer, *more: iter(tokenizer.encode(said)))
    output = asked(journey, "What is it?", life)
    assert output.code == 0 and " red " in output.out and not {"\x1b", "\x07"} & set(output.out)
    assert asked(journey, "What is it?", life, "--json").json["answer"] == said


NOT_ASKED = {
    "empty": ([""], "the question is empty"),
    "blank": ([" \n\t "], "the question is empty"),
    "half a character": (["what \udcff is it"], "surrogate"),
    "too long": (["word " * 200], "tokens too long"),
    "no room": (["What is it?", "--max-new-tokens", 64], "the question is"),
    "fewer than none": (["What is it?", "--passages", -1], "passages: must be at least 0, not -1"),
    "cold": (["What is it?", "--temperature", -1], "temperature: must be at least 0, not -1.0"),
    "no index": (
        ["What is it?", "--index", "chat"],
        '"chat" is a sft node: --index wants one that `journey index` made',
    ),
    "no such index": (["What is it?", "--index", "indx"], 'no node "indx"'),
    "no model": (["What is it?", "--node", "gguf"], "holds no weights"),
}


@pytest.mark.parametrize("case", NOT_ASKED)
def test_what_cannot_be_asked_is_told(life, journey, case):
    (question, *arguments), said = NOT_ASKED[case]
    output = asked(journey, question, life, *arguments)
    assert output.code == 2 and said in output.err and output.out == ""
    assert len(output.err.splitlines()) == 1


def test_ask_without_an_index_or_its_model_says_what_to_do(copy, journey, tmp_path):
    shutil.move(copy.node("preferred").path, tmp_path / "away")
    output = asked(journey, "What is it?", copy)
    assert output.code == 2 and "does not stand beside it: name one with --node" in output.err
    assert asked(journey, "What is it?", copy, "--node", tmp_path / "away").code == 0  # and so it goes on
    output = asked(journey, "What is it?", copy, "--node", "base")
    assert output.code == 2 and 'the index holds vectors of "preferred"' in output.err
    shutil.rmtree(copy.node("index").path)
    assert '"index" has not been made yet: `journey run --until index`' in asked(journey, "What is it?", copy).err
    assert journey("run", copy.recipe, "--workspace", tmp_path / "new", "--until", "prose").code == 0
    plan = tmp_path / "new" / "plan.json"
    stages = json.loads(plan.read_text())
    plan.write_text(json.dumps(stages | {"stages": [s for s in stages["stages"] if s["stage"] != "index"]}))
    output = journey("ask", "What is it?", "--workspace", tmp_path / "new")
    assert output.code == 2 and "no index in" in output.err and "`journey index --parent NODE --out DIR`" in output.err


def test_an_index_of_a_text_that_the_model_never_saw_says_so(life, journey, tmp_path):
    texts = "".join(json.dumps({"text": f"The heron number {i} stands in the marsh."}) + "\n" for i in range(500, 530))
    (tmp_path / "birds.jsonl").write_text(texts)
    arguments = ("--data", tmp_path / "birds.jsonl", "--embedder", "none", "--workspace", life.workspace)
    assert journey("index", "preferred", *arguments, "--out", tmp_path / "birds").code == 0
    question = ("Where does heron number 507 stand?", life, "--index", tmp_path / "birds", "--json")
    told = asked(journey, *question)
    assert told.code == 2 and "name one with --node" in told.json["error"]
    for name in ("preferred", "base"):  # whoever answers
        answer = asked(journey, *question, "--node", name).json
        assert answer["node"] == life.node(name).id and "heron number 507 " in answer["sources"][0]["text"]
        assert answer["notes"] == ['the index was built from "birds", a text that this model was never trained on']
    _, question = number_in(life)
    assert asked(journey, question, life, "--json").json["notes"] == []
