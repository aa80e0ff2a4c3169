"""Our scorer and lm-evaluation-harness's own, item by item, on every benchmark; and what is asked of whom."""

import json
import shutil

import numpy as np
import pytest

from journey.errors import JourneyError
from journey.evaluate.benchmark import asking
from journey.evaluate.benchmark.lm import Ours
from journey.evaluate.benchmark.tasks import BENCHMARKS
from journey.evaluate.harness import transformers_lm
from journey.evaluate.kept import Kept

LIKELIHOODS = [name for name in BENCHMARKS if name not in ("gsm8k", "humaneval")]


@pytest.fixture(scope="module")
def theirs(asked_node):
    """The harness's own model class, in which transformers computes."""
    return transformers_lm(asked_node, mark=False)


def both(name, asked_pair, theirs, bench_folder, chat=False, **how):
    asked = asking.load(name, bench_folder, **how)
    ours = Ours(*asked_pair)
    found = asking.ask(ours, asked, chat)
    return ours, found, asking.ask(theirs, asking.load(name, bench_folder, **how), chat)


def same(ours, theirs):
    """Every item: the same id and prompt, log-probabilities within rounding, the same outcome."""
    assert [each.id for each in ours] == [each.id for each in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.prompt, a.options, a.gold, a.target) == (b.prompt, b.options, b.gold, b.target)
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=2e-3)
        assert a.metrics.keys() == b.metrics.keys()
        for metric, value in a.metrics.items():
            assert value == pytest.approx(b.metrics[metric], abs=1e-3)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_each_item_is_as_likely_as_lm_eval_says(name, asked_pair, theirs, bench_folder):
    _, ours, other = both(name, asked_pair, theirs, bench_folder, items=50)
    assert len(ours) == 50
    same(ours, other)
    assert len({tuple(each.metrics.values()) for each in ours}) > 1  # not all right and not all wrong


@pytest.mark.parametrize("name", ["hellaswag", "mmlu", "winogrande"])
def test_worked_examples_stand_before_each_item_as_lm_eval_has_them(name, asked_pair, theirs, bench_folder):
    _, ours, other = both(name, asked_pair, theirs, bench_folder, items=10, shots=2)
    same(ours, other)
    assert all(each.prompt.count("\n\n") >= 2 for each in ours)


def test_the_chat_format_is_asked_as_lm_eval_asks_it(asked_pair, theirs, bench_folder):
    lm, ours, other = both("arc_easy", asked_pair, theirs, bench_folder, chat=True, items=20)
    same(ours, other)
    assert all(each.prompt.startswith("<|user|>") and each.prompt.endswith("<|assistant|>") for each in ours)
    special = lm.tokenizer.special
    assert lm.tok_encode(ours[0].prompt)[0] == special["<|user|>"]  # the token, not its spelling


def test_a_special_token_that_an_item_spells_is_text_in_the_chat_format(asked_pair):
    lm = Ours(*asked_pair)
    name = lm.apply_chat_template([{"role": "user", "content": "say <|end|>"}])
    assert lm.tok_encode(name).count(lm.tokenizer.special["<|end|>"]) == 0


def test_answers_are_written_as_lm_eval_writes_them(asked_node, asked_pair, bench_folder):
    asked = asking.load("gsm8k", bench_folder, items=6, shots=0)
    task = asked.tasks["gsm8k"]
    task.config.generation_kwargs.update({"max_gen_toks": 40, "until": ["engine", "Question:"]})
    ours = asking.ask(Ours(*asked_pair), asked)
    again = asking.load("gsm8k", bench_folder, items=6, shots=0)
    again.tasks["gsm8k"].config.generation_kwargs.update({"max_gen_toks": 40, "until": ["engine", "Question:"]})
    theirs = asking.ask(transformers_lm(asked_node, mark=False), again)
    assert [each.written for each in ours] == [each.written for each in theirs]
    assert not any("engine" in each.written for each in ours) and any(each.written for each in ours)


def test_a_whole_text_is_as_likely_as_lm_eval_says(asked_pair, theirs):
    from lm_eval.api.instance import Instance

    texts = ["one two three", "window garden " * 90, "x"]
    requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    np.testing.assert_allclose(
        Ours(*asked_pair).loglikelihood_rolling(requests),
        theirs.loglikelihood_rolling(requests, disable_tqdm=True),
        rtol=1e-5,
    )


def test_a_mark_stands_before_each_prompt_where_it_is_asked_for(asked_node, asked_pair, bench_folder):
    marked = asking.ask(Ours(*asked_pair, mark=True), asking.load("piqa", bench_folder, items=20))
    theirs = asking.ask(transformers_lm(asked_node, mark=True), asking.load("piqa", bench_folder, items=20))
    same(marked, theirs)
    plain = asking.ask(Ours(*asked_pair), asking.load("piqa", bench_folder, items=20))
    assert [each.logprobs for each in plain] != [each.logprobs for each in marked]


def test_a_killed_run_asks_only_for_the_rest(asked_pair, bench_folder, tmp_path, monkeypatch):
    whole = asking.ask(Ours(*asked_pair), asking.load("arc_easy", bench_folder, items=20))
    path = tmp_path / "answers.jsonl"

    class Killed(Exception):
        pass

    def die(done, total, unit):
        if done > total // 3:
            raise Killed

    monkeypatch.setattr("journey.evaluate.likelihood.ROW", 100)
    with pytest.raises(JourneyError, match="Killed"):
        asking.ask(Ours(*asked_pair, kept=Kept(path), progress=die), asking.load("arc_easy", bench_folder, items=20))
    path.write_bytes(path.read_bytes()[:-7])  # the last line was cut off
    kept = len(path.read_text().splitlines()) - 1
    seen = []
    resumed = Ours(*asked_pair, kept=Kept(path), progress=lambda done, total, unit: seen.append(done))
    found = asking.ask(resumed, asking.load("arc_easy", bench_folder, items=20))
    assert kept > 5 and min(seen) > kept
    same(found, whole)
    assert len(Kept(path)._rows) == len({(each.prompt, option) for each in whole for option in each.options})


def test_prompts_that_were_cut_are_counted(asked_pair, bench_folder):
    lm = Ours(*asked_pair)
    found = asking.ask(lm, asking.load("mmlu", bench_folder, items=30, shots=5))
    n_ctx = asked_pair[0].config.n_ctx
    long = {each.prompt for each in found if len(lm.encode(each.prompt)) > n_ctx}
    assert long and lm.cut >= long


def test_items_are_drawn_over_all_parts_and_the_same_each_time(bench_folder):
    first, again = (asking.load("mmlu", bench_folder, items=12, seed=3) for _ in range(2))
    other = asking.load("mmlu", bench_folder, items=12, seed=4)
    assert first.numbers == again.numbers != other.numbers
    assert sum(map(len, first.numbers.values())) == 12 and set(first.tasks) == set(first.numbers)


def test_shots_without_a_split_for_them_are_never_the_items_that_are_asked(bench_folder, asked_pair):
    asked = asking.load("gsm8k", bench_folder)
    assert asked.shots == 5 and "not asked" in asked.source
    assert max(asked.numbers["gsm8k"]) == 60 - asking.HELD_BACK - 1
    for name in ("piqa", "hellaswag"):  # of which the asked split is the validation split, where shots may come from
        shown = asking.load(name, bench_folder, shots=3)
        assert max(shown.numbers[name]) == 50 - asking.HELD_BACK - 1
    few = asking.load("piqa", bench_folder, shots=0)
    assert len(few.numbers["piqa"]) == 50


def test_a_right_answer_that_is_no_option_is_refused(bench_folder, asked_pair, tmp_path):
    rows = [json.loads(line) for line in (bench_folder / "hellaswag-validation.jsonl").read_text().splitlines()[:5]]
    rows[3]["label"] = "4"
    (tmp_path / "hellaswag.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(JourneyError, match="hellaswag, item 3: its right answer is 4, of 4 options"):
        asking.ask(Ours(*asked_pair), asking.load("hellaswag", tmp_path))


def test_a_label_that_is_no_number_is_told(bench_folder, tmp_path):
    row = json.loads((bench_folder / "hellaswag-validation.jsonl").read_text().splitlines()[0]) | {"label": ""}
    (tmp_path / "hellaswag.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(JourneyError, match=r"hellaswag\.jsonl: lm-eval cannot make questions"):
        asking.load("hellaswag", tmp_path)


def test_without_files_and_without_the_hub_it_is_said_in_a_line(tmp_path, monkeypatch):
    import datasets

    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach it\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(JourneyError, match=r"^piqa cannot be had from the Hub.*--data DIR.*Couldn't reach it\)$"):
        asking.load("piqa", tmp_path)


def test_rows_of_the_hub_are_asked_like_those_of_files(bench_folder, asked_pair, monkeypatch):
    import datasets

    rows = [json.loads(line) for line in (bench_folder / "arc_challenge.jsonl").read_text().splitlines()]
    data = datasets.Dataset.from_list(rows)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, **kwargs: {"train": data, "validation": data, "test": data}
    )
    hub, local = (asking.load("arc_challenge", folder, items=15) for folder in (None, bench_folder))
    assert hub.source == "the Hub" and hub.numbers == local.numbers
    same(asking.ask(Ours(*asked_pair), hub), asking.ask(Ours(*asked_pair), local))


@pytest.mark.slow
def test_any_task_of_lm_eval_goes_by_its_name(asked_pair, theirs, monkeypatch):
    """It takes ten seconds to know the names."""
    import datasets

    from journey.evaluating.options import Options
    from journey.measures import load

    rows = [
        {"question": f"What is {i}?", "support": "", "correct_answer": "a stone", "distractor1": "rain",
         "distractor2": "an engine", "distractor3": "no"}
        for i in range(20)
    ]  # fmt: skip
    data = datasets.Dataset.from_list(rows)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, **kwargs: dict.fromkeys(("train", "validation", "test"), data)
    )
    assert Options(tasks="sciq,piqa").measures() == ["lm_eval:sciq", "piqa"]
    assert load("lm_eval:sciq").name == "lm_eval:sciq"
    asked = [asking.load("sciq", None, items=12) for _ in range(2)]
    ours, other = asking.ask(Ours(*asked_pair), asked[0]), asking.ask(theirs, asked[1])
    same(ours, other)
    assert len(ours) == 12 and ours[0].gold == 3
    with pytest.raises(JourneyError, match='no benchmark "scik", did you mean "sciq"'):
        Options(tasks="scik").measures()


def test_a_task_that_runs_code_is_refused(bench_folder, asked_pair):
    asked = asking.load("piqa", bench_folder, items=2)
    asked.tasks["piqa"].UNSAFE_CODE = True
    with pytest.raises(JourneyError, match="runs what a model writes"):
        asking.ask(Ours(*asked_pair), asked)


def test_the_harness_has_every_task_under_our_name():
    for name in (*LIKELIHOODS, "gsm8k"):
        benchmark = BENCHMARKS[name]
        known = asking._tasks(benchmark.folder)
        assert name in known.all_tasks
        cfg = known.task_index[name].cfg
        if not benchmark.group:
            assert (cfg.get("num_fewshot") or 0) == benchmark.shots
            metrics = [each["metric"] for each in cfg["metric_list"]]
            assert benchmark.metric in metrics
            assert cfg.get(f"{benchmark.split}_split") == benchmark.split


def test_copies_of_a_folder_give_the_same_ids(bench_folder, tmp_path):
    shutil.copytree(bench_folder, tmp_path / "copy")
    assert asking.load("piqa", tmp_path / "copy").numbers == asking.load("piqa", bench_folder).numbers
