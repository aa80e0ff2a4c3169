"""From pairs to a translator by the command line: made, measured, asked, resumed, and refused where a GPT is wanted."""

import json
import os
import shutil
from pathlib import Path

import pytest

from journey.checkpoint import open_node, open_tokenizer
from journey.data.translations import saved
from journey.errors import JourneyError
from journey.infer.translate import translate
from journey.measure import Bench, Drawn
from journey.measures import load as load_measure
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.pair import open_seq2seq
from journey.report.blocks import Heat
from journey.stages.run import Run, Stopped
from journey.stages.seq2seq import Seq2seq, seq2seq
from journey.stages.translations import TranslationsConfig, translations
from tests.conftest import Silent

RECIPE = """\
name: small
seed: 2
measure: {{translation: {{beams: 2}}}}
stages:
  - name: pairs
    stage: translations
    with: {{source: {source}, held_out: 12}}
  - name: tok
    stage: tokenizer
    with: {{data: pairs, vocab_size: 290, pattern: qwen2}}
  - name: translator
    stage: seq2seq
    parents: [tok]
    with: {{data: pairs, n_layer: 1, n_embd: 32, n_head: 2, n_ctx: 48, steps: 60, warmup: 20, batch_size: 16,
           evaluations: 2, dev_pairs: 6}}
expect:
  translator: {{exact_match: "is >= 1 %", bleu: size}}
"""

COUNTED = ("one", "two", "ten")


@pytest.fixture(scope="module")
def place(tmp_path_factory, journey):
    """A workspace in which a copier of short words was taught, by a recipe."""
    folder = tmp_path_factory.mktemp("seq2seq")
    rows = [
        {"en": f"{a}{b} {c}", "de": f"{c} {a}{b}"} for a in "abcdefgh" for b in "xyz" for c in ("one", "two", "ten")
    ]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "r.yaml").write_text(RECIPE.format(source=folder / "p.jsonl"))
    output = journey("run", folder / "r.yaml", "--workspace", folder / "w", "--json")
    assert output.code == 0, output.err
    return folder / "w"


def node(place, name):
    return open_node(next((place / "nodes").glob(f"{name}-*")))


def test_the_life_stands_and_its_page_shows_what_it_found(place, journey):
    page = (place / "report.html").read_text()
    for said in ("pairs of a text and its translation", "translated exactly", "chrF2", "Where translator looks"):
        assert said in page
    assert page.count('class="square"') > 20 and "From pairs of texts to a translator" in page
    assert "No model has been measured yet" not in page
    again = journey("run", place.parent / "r.yaml", "--workspace", place)
    assert "nothing to do" in again.err
    made = node(place, "translator")
    assert "pipeline_tag: translation" in (made.path / "README.md").read_text()
    history = json.loads((made.path / "history.json").read_text())
    assert len(history) == 60 and history[-1]["loss"] < history[0]["loss"]
    assert 0 <= history[-1]["dev_exact_match"] <= 1 and history[29]["dev_loss"] > 0
    facts = made.lineage
    assert facts["tokens"] == history[-1]["tokens"] and facts["flops"] > 0
    assert facts["metrics"]["pairs"]["value"] == len(saved(node(place, "pairs").path / "translations-train.jsonl"))


def test_every_verb_takes_it_or_says_so_in_a_line(place, journey):
    at = ("--workspace", place)
    assert journey("verify", *at).code == 0
    assert "translator  seq2seq + pairs" in journey("tree", *at).out
    found = journey("eval", "translator", *at, "--json").json["metrics"]
    assert {"exact_match", "bleu", "chrf"} <= set(found) and found["bleu"]["n"] == 4
    assert found["exact_match"]["low"] <= found["exact_match"]["value"] <= found["exact_match"]["high"]
    assert journey("diff", "translator", "translator", *at).code == 0
    for arguments, said in (
        (("chat", "translator", *at), "is an encoder–decoder, this wants a GPT: `journey generate translator"),
        (("ask", "what?", "--index", "translator", *at), "is a seq2seq node"),
        (("sft", "translator", "--out", "o", *at), "goes on from a model"),
        (("quantize", "translator", "--out", "o", *at), "goes on from a model"),
        (("eval", "translator", "--measure", "repeats", *at), "repeats is taken of a model, translator is a seq2seq"),
        (("eval", "tok", "--measure", "translation", *at), "translation is taken of a seq2seq, tok is a tokenizer"),
        (("generate", "translator", "x", "--temperature", "0.5", *at), "draws nothing at random"),
        (("generate", "translator", "", *at), "empty: give some"),
        (("generate", "translator", "a " * 60, *at), "the model reads 48: shorten it"),
        (("generate", "tok", "x", *at), "holds no weights"),
        (("generate", "translator", "x", "--beams", "0", *at), "beams: must be at least 1"),
        (("sweep", place.parent / "r.yaml", "--vary", "stages.tok.vocab_size=290,300", "--dry-run"), "makes a model"),
    ):
        output = journey(*arguments)
        assert output.code == 2 and said in output.err and len(output.err.splitlines()) == 1, output.err


def test_generate_translates_as_the_library_does(place, journey):
    at = ("--workspace", place)
    model, tokenizer = open_seq2seq(node(place, "translator").path)
    for beams in (1, 3):
        answer = journey("generate", "translator", "bz ten", "--beams", beams, *at, "--json").json
        source, marks = tokenizer.encode("bz ten"), {"start": tokenizer.bos, "eos": tokenizer.eos}
        ids = translate(model, [source], **marks, beams=beams, max_new_tokens=100)[0].ids
        assert answer["text"] == tokenizer.decode([i for i in ids if i != tokenizer.eos])
        assert answer["tokens"] == len(ids)


def test_beams_are_not_for_a_gpt(place, journey, tmp_path):
    tokenizer = open_tokenizer(node(place, "tok").path)
    huggingface.save(GPT(GPTConfig.make("gpt2", tokenizer.n_ids, 16, 1, 32)), tmp_path)
    tokenizer.save(tmp_path)
    output = journey("generate", tmp_path, "x", "--beams", "2", "--workspace", place)
    assert output.code == 2 and "is a GPT, beams are for an encoder–decoder" in output.err
    assert journey("generate", tmp_path, "x", "--max-new-tokens", "2", "--workspace", place).code == 0


def test_what_is_measured_is_what_it_says(place):
    made = node(place, "translator")
    bench = Bench(made, None, {}, drawn=Drawn(), seed=0, split="test", scratch=place)
    measure = load_measure("translation")
    taken = measure.body(bench, measure.config(beams=1))
    rows = taken.items["items"].rows()
    model, tokenizer = open_seq2seq(made.path)
    for row, pair in zip(rows, saved(made.path / "translations-test.jsonl"), strict=True):
        ids = translate(model, [tokenizer.encode(pair.source)], start=tokenizer.bos, eos=tokenizer.eos)[0].ids
        assert row["said"] == tokenizer.decode([i for i in ids if i != tokenizer.eos])
        assert row["exact"] == (row["said"] == pair.target) and row["source"] == pair.source
    look = taken.facts["looks"][0]
    assert all(abs(sum(row) - 1) < 0.01 for layer in look["heads"] for head in layer for row in head)
    assert len(look["heads"][0][0]) == len(look["written"]) and len(look["heads"][0][0][0]) == len(look["read"])


def test_its_folder_is_opened_by_transformers(place):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = node(place, "translator").path
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "MarianMTModel"
    ours, own = open_seq2seq(folder)
    texts = ["bz ten", "ax one", "hy two"]
    batch = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    for beams in (1, 4):
        written = tokenizer.batch_decode(model.generate(**batch, num_beams=beams), skip_special_tokens=True)
        said = translate(ours, [own.encode(t) for t in texts], start=own.bos, eos=own.eos, beams=beams)
        assert written == [own.decode([i for i in one.ids if i != own.eos]) for one in said]


def test_a_stopped_training_goes_on_to_the_same_weights(place, tmp_path):
    config = Seq2seq(
        data=str(node(place, "pairs").path), n_layer=1, n_embd=32, n_head=2, n_ctx=48, steps=10, warmup=5, batch_size=8
    )
    parent = node(place, "tok")
    whole = seq2seq(parent, config, Run(tmp_path / "whole", seed=3))

    console = Silent()
    console.when = lambda times: setattr(console, "stopping", times == 4)
    with pytest.raises(Stopped):
        seq2seq(parent, config, Run(tmp_path / "parted", seed=3, console=console))
    assert not (tmp_path / "parted").exists()
    again = seq2seq(parent, config, Run(tmp_path / "parted", seed=3))
    assert again.id == whole.id and again.lineage["weights_sha256"] == whole.lineage["weights_sha256"]
    assert (again.path / "history.json").read_text() == (whole.path / "history.json").read_text()
    assert not list(tmp_path.glob(".work-*"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"n_ctx": 2}, "no train pair of 64 fits 2 tokens: choose a larger n_ctx"),
        ({"n_embd": 30, "n_head": 4}, "n_embd 30 is not a multiple of n_head 4"),
        ({"n_embd": 9, "n_head": 3}, "n_embd 9 is odd"),
        ({"dropout": 1.0}, "dropout: must be at least 0 and below 1"),
        ({"data": "nowhere"}, "nowhere is no folder of a translations node"),
    ],
)
def test_a_setting_that_cannot_be_is_a_line(place, tmp_path, config, said):
    with pytest.raises(JourneyError, match=said):
        wanted = Seq2seq(**{"data": str(node(place, "pairs").path), "steps": 1} | config)
        seq2seq(node(place, "tok"), wanted, Run(tmp_path / "o"))
    assert not list(tmp_path.iterdir())


def test_a_damaged_folder_is_told(place, tmp_path):
    shutil.copytree(node(place, "translator").path, tmp_path / "n")
    (tmp_path / "n" / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(JourneyError, match="was changed since its node was made"):
        open_node(tmp_path / "n")
    with pytest.raises(JourneyError, match="damaged or cut off"):
        open_seq2seq(tmp_path / "n")


def test_pairs_are_the_same_for_a_seed_wherever_the_file_lies(tmp_path):
    rows = "".join(json.dumps({"source": f"s{i}", "target": f"t{i}"}) + "\n" for i in range(60))
    (tmp_path / "a.jsonl").write_text(rows)
    (tmp_path / "b.jsonl").write_text(rows)
    a, b, c = (
        translations(None, TranslationsConfig(source=str(tmp_path / f)), Run(tmp_path / o, seed=seed))
        for f, o, seed in (("a.jsonl", "one", 1), ("b.jsonl", "two", 1), ("a.jsonl", "three", 2))
    )
    files = [f"translations-{split}.jsonl" for split in ("train", "dev", "test")]
    assert [(a.path / f).read_bytes() for f in files] == [(b.path / f).read_bytes() for f in files]
    assert (c.path / files[2]).read_bytes() != (a.path / files[2]).read_bytes()
    assert len(saved(a.path / files[2])) == 3 and len(saved(a.path / files[1])) == 3
    with pytest.raises(JourneyError, match="target and fields are of files"):
        TranslationsConfig(target="x.jsonl")
    with pytest.raises(JourneyError, match="give the path of a file of pairs"):
        translations(None, TranslationsConfig(source=str(tmp_path / "no.jsonl")), Run(tmp_path / "four"))


@pytest.mark.skipif("JOURNEY_DATA" not in os.environ, reason="JOURNEY_DATA names no folder of real data")
def test_two_languages_of_xquad_are_learned_from(tmp_path):
    """Whole sentences in two scripts: the real case, with a few steps."""
    from journey.stages.tokenizer import TokenizerConfig, tokenizer

    folder = Path(os.environ["JOURNEY_DATA"]) / "retrieval" / "xquad"
    config = TranslationsConfig(
        source=str(folder / "en.jsonl.gz"), target=str(folder / "ru.jsonl.gz"), source_field="question"
    )
    pairs = translations(None, config, Run(tmp_path / "pairs"))
    tok = tokenizer(None, TokenizerConfig(data=str(pairs.path), vocab_size=600), Run(tmp_path / "tok"))
    config = Seq2seq(data=str(pairs.path), n_layer=1, n_embd=32, n_head=2, n_ctx=96, steps=3, batch_size=8, dev_pairs=2)
    made = seq2seq(tok, config, Run(tmp_path / "made"))
    test = saved(made.path / "translations-test.jsonl")
    assert 50 < len(test) <= 60 and any("Как" in pair.target for pair in test)
    assert open_tokenizer(made.path).decode(open_tokenizer(made.path).encode(test[0].target)) == test[0].target


def test_pictures_have_a_row_for_each_token_written(place):
    from journey.life import workspace
    from journey.measures.translation import draw

    seen = workspace.Life.read(place).seen("translation")
    blocks = draw(seen)

    def inside(blocks):
        for block in blocks:
            yield from inside(block.blocks) if hasattr(block, "blocks") else [block]

    pictures = [block for block in inside(blocks) if isinstance(block, Heat)]
    assert pictures and all(len(p.values) == len(p.rows) and len(p.values[0]) == len(p.columns) for p in pictures)
