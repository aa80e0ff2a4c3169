"""The command line as people and programs meet it."""

import io
import json
import re
import subprocess
import sys

import pytest

from journey import cli, verbs
from journey.errors import JourneyError

SHAPE = {"ok", "verb", "node", "path", "metrics", "error"}
METRIC = {"value", "low", "high", "n", "unit", "convention"}
HEAVY = ("torch", "transformers", "trl", "tyro", "tokenizers", "pyarrow", "rich", "numpy")


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


@pytest.mark.parametrize("verb", ["run", "generate", "pretrain", "sft"])
def test_the_help_of_a_verb_imports_no_torch(verb):
    code, names, text = imported(verb, "--help")
    assert code == 0 and not names & {"torch", "transformers", "trl", "tokenizers"}
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

    assert set(cli.STAGE_VERBS) == set(STAGES)
    for verb in set(cli.VERBS) - set(STAGES):
        assert callable(getattr(verbs, verb))


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
    }


@pytest.mark.parametrize("verb", ["run", "tree", "report", "eval", "diff", "generate", "chat"])
def test_json_is_one_object_on_the_last_line_and_people_read_stderr(life, journey, monkeypatch, verb):
    monkeypatch.setattr("sys.stdin", io.StringIO("What does the array do?\n/reset\n"))
    output = journey(verb, *calls(life)[verb], "--json")
    assert output.code == 0, output.err
    assert len(output.out.splitlines()) == 1  # nothing else stands on stdout
    answer = whole(output.json, verb)
    if verb in ("run", "eval", "diff", "generate", "chat"):
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
    assert [node["name"] for node in nodes] == ["prose", "code", "tokenizer", "base", "coder", "chat"]
    ids = {node["id"]: node["name"] for node in nodes}
    for node in nodes:
        assert {"id", "name", "stage", "parents", "path", "metrics"} <= node.keys()
        assert all(parent in ids for parent in node["parents"])
    coder = nodes[4]
    assert [ids[parent] for parent in coder["parents"]] == ["base", "code", "prose"]


def test_tree_draws_each_node_under_its_parent(life, journey):
    lines = journey("tree", "--workspace", life.workspace).out.splitlines()
    indents = {re.search(r"\w+", line)[0]: len(re.match(r"[│├└─ ]*", line)[0]) for line in lines}
    assert indents.keys() == {"prose", "code", "tokenizer", "base", "coder", "chat"}
    assert indents["tokenizer"] < indents["base"] < indents["coder"] < indents["chat"]
    assert "bits/byte" in next(line for line in lines if "chat" in line)


def test_tree_shows_what_is_not_made_yet(copy, journey):
    import shutil

    shutil.rmtree(copy.node("chat").path)
    assert "not made yet" in journey("tree", "--workspace", copy.workspace).out
    assert not journey("tree", "--workspace", copy.workspace, "--json").json["nodes"][-1]["made"]


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
        (["eval", "prose"], "has not been measured"),
        (["diff", "base", "code"], "has not been measured"),
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
    "empty": (["--set", "stages.prose.max_bytes=0"], ": 0 documents"),
    "shares": (["--set", "stages.prose.test=0.9"], "are shares of the documents"),
    "no text": (["--set", "stages.prose.source=nowhere"], "no such text: nowhere"),
    "tokens": (["--set", "stages.base.tokens=5"], "is less than one step"),
    "accumulate": (["--set", "stages.base.accumulate=3"], "is not a multiple of accumulate 3"),
    "no batch": (["--set", "stages.base.batch_size=0"], "batch_size is 0: it must be at least 1"),
    "no evaluation": (["--set", "stages.base.evaluations=0"], "evaluations is 0: it must be at least 1"),
    "heads": (["--set", "stages.base.n_head=5"], "n_embd 32 is no multiple of n_head 5"),
    "context": (["--set", "stages.base.n_ctx=1_000_000"], "too few for one row"),
    "replay": (["--set", "stages.coder.replay=1.5"], "replay is 1.5: it is a share"),
    "nothing to replay": (["--set", "stages.coder.replay_data="], "replay"),
    "rate": (["--set", "stages.base.lr=1e30"], "the loss is not a number"),
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


def test_a_mistake_of_ours_is_a_traceback_and_still_json(journey, monkeypatch):
    def fail(*arguments, **more):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(verbs, "home", fail)
    with pytest.raises(RuntimeError):
        journey("tree")
    output = journey("tree", "--json")
    assert output.code == 1 and "Traceback" in output.err
    assert whole(output.json, "tree", ok=False)["error"] == "RuntimeError: first line"


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt, 1), (JourneyError, 2)])
def test_how_a_command_ends(journey, monkeypatch, raised, code):
    def fail(*arguments, **more):
        raise raised("x")

    monkeypatch.setattr(verbs, "home", fail)
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


def test_a_stage_does_not_write_over_what_is_there(life, journey, tmp_path):
    (tmp_path / "mine.txt").write_text("dear")
    output = journey("text", "--source", life.texts / "prose.jsonl", "--out", tmp_path)
    assert output.code == 2 and "exists and is not a node" in output.err
    output = journey("text", "--source", life.texts / "code.jsonl", "--out", life.node("prose").path)
    assert output.code == 2 and "already holds another node" in output.err
    assert (tmp_path / "mine.txt").read_text() == "dear"
