"""HumanEval as a measure: what is run is what the model wrote, and pass@k is counted over its samples."""

import json
from types import SimpleNamespace

import pytest

from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.evaluate import sandbox
from journey.evaluate.benchmark.lm import Ours
from journey.measure import Bench, Drawn
from journey.measures.humaneval import UNTIL, HumanEval, _code, humaneval
from journey.scores import estimates

ROWS = [
    {
        "task_id": f"HumanEval/{i}",
        "prompt": f'def add{i}(x):\n    """Add {i}."""\n',
        "entry_point": f"add{i}",
        "test": f"def check(f):\n    assert f(1) == {1 + i}\n",
        "canonical_solution": f"    return x + {i}\n",
    }
    for i in range(6)
]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "humaneval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


@pytest.fixture
def bench(asked_pair, tmp_path, monkeypatch):
    made = Bench(Node(tmp_path / "none"), None, {}, drawn=Drawn(), seed=0, split="test", scratch=tmp_path)
    made.node.__dict__["lineage"] = {"name": "a model", "id": "x", "parents": []}
    made.opened = asked_pair
    return made


def answering(monkeypatch, write):
    """A model that writes what `write(prompt, how often it was asked before)` says."""
    seen = {}

    def generate_until(self, requests, disable_tqdm=False):
        texts = []
        for request in requests:
            prompt, how = request.args
            times = seen[prompt] = seen.get(prompt, -1) + 1
            texts.append(write(prompt, times))
            generate_until.how = how
        return texts

    monkeypatch.setattr(Ours, "generate_until", generate_until)
    return generate_until


def right(prompt):
    return f"    return x + {int(prompt.split('Add ')[1].split('.')[0])}\n"


def test_the_share_that_passes_and_why_the_others_do_not(bench, data, monkeypatch):
    def write(prompt, times):
        return right(prompt) if "Add 2" not in prompt and "Add 3" not in prompt else "    return y\n"

    asked = answering(monkeypatch, write)
    found = humaneval.body(bench, HumanEval(data=str(data)))
    e = estimates(found)["humaneval.pass@1"]
    assert e.value == pytest.approx(100 * 4 / 6) and e.n == 6 and e.low < e.value < e.high
    whys = {item["id"]: item["why"] for item in found.facts["items"]}
    assert whys["HumanEval/2"].startswith("NameError") and whys["HumanEval/0"] == "passed"
    assert asked.how["until"] == UNTIL and not asked.how["do_sample"]
    assert sandbox.isolation() in found.facts["convention"]


def test_pass_at_k_is_counted_over_the_samples(bench, data, monkeypatch):
    answering(monkeypatch, lambda prompt, times: right(prompt) if times < 5 else "    return None\n")
    found = humaneval.body(bench, HumanEval(data=str(data), items=2, samples=10, temperature=0.5))
    numbers = {key: e.value for key, e in estimates(found).items()}
    assert numbers == {"humaneval.pass@1": pytest.approx(50), "humaneval.pass@10": pytest.approx(100)}


def test_none_right_is_no_certainty(bench, data, monkeypatch):
    answering(monkeypatch, lambda prompt, times: "    return None\n")
    found = humaneval.body(bench, HumanEval(data=str(data), samples=10, temperature=0.5))
    assert estimates(found)["humaneval.pass@1"].high > 20


def test_a_chat_answer_s_code_block_is_what_runs(bench, data, monkeypatch):
    def write(prompt, times):
        i = prompt.split("Add ")[1].split(".")[0]
        return f"Sure:\n```python\ndef add{i}(x):\n    return x + {i}\n```\nIt adds."

    answering(monkeypatch, write)
    found = humaneval.body(bench, HumanEval(data=str(data), chat=True))
    assert estimates(found)["humaneval.pass@1"].value == 100
    assert _code("no code at all", "f") == "no code at all"
    assert _code("```\n    return 1\n", "f").rstrip() == "    return 1"


def test_a_model_really_writes_and_its_prompt_may_be_cut(bench, data):
    long = [row | {"prompt": "# " + "garden window " * 200 + "\n" + row["prompt"]} for row in ROWS[:2]]
    (data / "humaneval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    found = humaneval.body(bench, HumanEval(data=str(data)))
    assert "2 prompts lost their beginning" in found.facts["convention"]
    assert estimates(found)["humaneval.pass@1"].value == 0


def test_samples_that_would_all_be_the_same_are_refused():
    with pytest.raises(JourneyError, match="several samples at temperature 0 are the same one"):
        HumanEval(samples=10)


def test_a_model_without_the_chat_format_is_told(bench, data):
    model, _ = bench.opened
    bench.opened = model, SimpleNamespace(special={"<|endoftext|>": 0})
    with pytest.raises(JourneyError, match=r"a model has no <\|pad\|>: leave out chat"):
        humaneval.body(bench, HumanEval(data=str(data), chat=True))
