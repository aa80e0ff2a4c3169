"""Trainings that read a mixture of texts: its order, its numbers, its id, and what cannot be mixed."""

import dataclasses
import json

import pytest

from journey import recipe, runner
from journey.data import shards
from journey.data.corpus import Corpus
from journey.data.stream import TokenStream
from journey.errors import JourneyError
from journey.measure import Bench, Drawn
from journey.measures.bits_per_byte import _tokens_read
from journey.stages.continue_ import Continue, continue_
from journey.stages.prepare import Prepare, prepare
from journey.stages.pretrain import Pretrain, pretrain
from journey.stages.run import Run, Stopped
from journey.stages.tokenizer import TokenizerConfig as Learned
from journey.stages.tokenizer import tokenizer
from journey.tokenizer.formats import Tokenizer

SHAPE = {"n_layer": 1, "n_embd": 32, "n_ctx": 64, "tokens": 2_048, "evaluations": 2}


def base(life, folder, data="prose=0.75,code=0.25", name="base", **changes):
    given = {"data:prose": life.node("prose"), "data:code": life.node("code")}
    run = Run(folder / name, seed=3, given=given if data.startswith("prose=") else {})
    return pretrain(life.node("tokenizer"), Pretrain(data=data, **SHAPE | changes), run)


@pytest.fixture(scope="module")
def mixed(life, tmp_path_factory):
    """Three quarters prose, one quarter code."""
    return base(life, tmp_path_factory.mktemp("mixed"))


def test_every_text_is_scored_read_and_recorded(mixed, life):
    metrics = {key: value["value"] for key, value in mixed.lineage["metrics"].items()}
    whole = 0.75 * metrics["dev_bits_per_byte_prose"] + 0.25 * metrics["dev_bits_per_byte_code"]
    assert metrics["dev_bits_per_byte"] == pytest.approx(whole)
    both = metrics["dev_perplexity_prose"] ** 0.75 * metrics["dev_perplexity_code"] ** 0.25
    assert metrics["dev_perplexity"] == pytest.approx(both)
    history = json.loads((mixed.path / "history.json").read_text())
    assert sum("dev_bits_per_byte_code" in line and "dev_bits_per_byte" in line for line in history) == 2
    assert metrics["epochs_prose"] > 0 and metrics["epochs_code"] > 0
    data = mixed.lineage["data"]
    assert data.keys() == {"data", "data:prose", "data:code"}
    assert data["data:code"] == life.node("coder").lineage["data"]["data"]


def test_the_n_grams_of_each_text_have_read_what_the_model_read_of_it(mixed, life, tmp_path):
    """32 rows of 64 tokens: 24 of prose and 8 of code, in the order of their own streams."""
    texts = {"prose": life.node("prose"), "code": life.node("code")}
    bench = Bench(mixed, None, texts, drawn=Drawn(), seed=3, split="test", scratch=tmp_path)
    read = _tokens_read(bench)
    learned = Tokenizer.load(mixed.path)
    for name, rows in (("prose", 24), ("code", 8)):
        shards.write(bench.corpora[name], learned, ("train",), tmp_path / name)
        stream = TokenStream(shards.open_shards(tmp_path / name, "train", learned), 64, 3)
        assert read[name].tolist() == stream.first(rows).tolist()
    del bench.texts["prose"]
    assert list(_tokens_read(bench)) == ["code"]


def test_the_id_is_of_shares_and_texts_not_of_names(mixed, life, tmp_path):
    """The same mixture, its weights written otherwise its texts given as folders: the same node."""
    prose, code = life.node("prose").path, life.node("code").path
    again = base(life, tmp_path, f"{prose}=3,{code}=1", "again")
    assert again.id == mixed.id and again.lineage["weights_sha256"] == mixed.lineage["weights_sha256"]
    other = base(life, tmp_path, "prose=0.5,code=0.5", "other")
    assert other.id != mixed.id and other.lineage["weights_sha256"] != mixed.lineage["weights_sha256"]


def test_a_stopped_training_goes_on_in_the_same_order(mixed, life, tmp_path):
    config = Pretrain(data="prose=0.75,code=0.25", **SHAPE)
    given = {"data:prose": life.node("prose"), "data:code": life.node("code")}
    run = Run(tmp_path / "base", seed=3, given=given)
    run.console.progress = lambda *told: setattr(run.console, "stopping", told[3] == "tokens")
    with pytest.raises(Stopped):
        pretrain(life.node("tokenizer"), config, run)
    node = pretrain(life.node("tokenizer"), config, Run(tmp_path / "base", seed=3, given=given))
    assert node.lineage["weights_sha256"] == mixed.lineage["weights_sha256"]
    assert (node.path / "history.json").read_text() == (mixed.path / "history.json").read_text()


def test_tokens_mix_as_their_text_does(mixed, life, tmp_path):
    """A prepared text has the rows of the text itself, so the weights are the same; the id is another."""
    made = prepare(life.node("tokenizer"), Prepare(data=str(life.node("code").path)), Run(tmp_path / "tokens"))
    node = base(life, tmp_path, f"{life.node('prose').path}=0.75,{made.path}=0.25")
    assert node.id != mixed.id and node.lineage["weights_sha256"] == mixed.lineage["weights_sha256"]
    assert "dev_bits_per_byte_code" in node.lineage["metrics"]


def test_continue_mixes_and_replays(mixed, life, tmp_path):
    data = f"{life.node('code').path}=1,{life.texts / 'prose.jsonl'}=1"
    config = Continue(data=data, replay_data=str(life.node("prose").path), tokens=1_024, evaluations=1)
    node = continue_(life.node("base"), config, Run(tmp_path / "more", seed=4))
    numbers = {key for key in node.lineage["metrics"] if key.startswith(("epochs", "dev_bits"))}
    texts = ("_code", "_prose", "_replay")
    assert numbers == {f"{key}{text}" for key in ("epochs", "dev_bits_per_byte") for text in texts} | {
        "dev_bits_per_byte"
    }


def test_how_often_a_plain_text_was_read_is_said_too(life, tmp_path):
    """A text of less than a batch repeats within it."""
    lines = (life.texts / "prose.jsonl").read_text().splitlines()[:12]
    (tmp_path / "few.jsonl").write_text("\n".join(lines))
    node = base(life, tmp_path, str(tmp_path / "few.jsonl"), batch_size=32, n_ctx=128, tokens=8_192)
    assert node.lineage["metrics"]["epochs"]["value"] > 4
    with pytest.raises(JourneyError, match=r"the training text has [\d,]+ tokens, too few for one row of 4096"):
        base(life, tmp_path, str(tmp_path / "few.jsonl"), "long", n_ctx=4096)


@pytest.fixture(scope="module")
def others(life, tmp_path_factory):
    """Tokens of the code that another tokenizer made, which has more ids than the models here."""
    folder = tmp_path_factory.mktemp("others")
    learned = tokenizer(None, Learned(data=str(life.node("code").path), vocab_size=600), Run(folder / "tokenizer"))
    return prepare(learned, Prepare(data=str(life.node("code").path)), Run(folder / "tokens"))


@pytest.mark.parametrize("data", ["{}", "{prose}=0.5,{}=0.5"])
def test_tokens_of_another_vocabulary_are_refused(life, tmp_path, others, data):
    data = data.format(others.path, prose=life.node("prose").path)
    with pytest.raises(JourneyError, match="these tokens were made by another tokenizer") as error:
        base(life, tmp_path, data)
    assert "\n" not in str(error.value)
    config = Continue(data=data, replay=0.0, replay_data="", tokens=1_024)
    with pytest.raises(JourneyError, match="these tokens were made by another tokenizer"):
        continue_(life.node("base"), config, Run(tmp_path / "more"))
    config = Continue(data=str(life.node("prose").path), replay_data=str(others.path), tokens=1_024)
    with pytest.raises(JourneyError, match="these tokens were made by another tokenizer"):
        continue_(life.node("base"), config, Run(tmp_path / "more"))


def test_a_model_is_no_part_and_a_text_no_second_one(life, tmp_path):
    prose = life.node("prose").path
    with pytest.raises(JourneyError, match=r"is a pretrain node: data:.* must be a text"):
        base(life, tmp_path, f"{prose}=1,{life.node('base').path}=1")
    with pytest.raises(JourneyError, match="mixes a text with itself"):
        base(life, tmp_path, f"{prose}=1,{life.texts / 'prose.jsonl'}=1")
    with pytest.raises(JourneyError, match=r"data: .* the weight of code must be a number above 0"):
        base(life, tmp_path, "prose=1,code=0")
    with pytest.raises(JourneyError, match="no such text: nothing"):
        base(life, tmp_path, f"{prose}=1,nothing=1")


RECIPE = """  - name: mixed
    stage: pretrain
    parents: [tokenizer]
    with: {{data: {data}, n_layer: 1, n_embd: 32, n_ctx: 64, tokens: 1_024, evaluations: 1}}
measure: {{documents: 8, greedy: false}}
"""


def write(life, data):
    """The life with another recipe, beside its own workspace: the first one is shared by all tests."""
    path = life.workspace.parent / "mixed.yaml"
    path.write_text(life.recipe.read_text().partition("  - name: base")[0] + RECIPE.format(data=data))
    return dataclasses.replace(life, recipe=path)


def test_a_recipe_has_a_mixture_as_a_mapping_or_as_text(copy, journey, tmp_path):
    """The same id either way; the plan says why it is made, the tree and the page name every text."""
    ids = []
    for data in ("{prose: 0.7, code: 0.3}", "'prose=0.7,code=0.3'", "{prose: 7, code: 3}"):
        life = write(copy, data)
        said = journey("run", life.recipe, "--workspace", life.workspace, "--dry-run")
        assert said.code == 0, said.err
        ids.append(runner.plan(recipe.read(life.recipe), life.workspace)[-1].id)
    assert len(set(ids)) == 1
    assert journey("run", life.recipe, "--workspace", life.workspace).code == 0
    assert "mixed  pretrain + prose, code" in journey("tree", "--workspace", life.workspace).out
    shown = journey("eval", "mixed", "--workspace", life.workspace, "--json").json["metrics"]
    assert {f"bits_per_byte.{text}.bigram" for text in ("prose", "code")} <= shown.keys()
    page = (life.workspace / "report.html").read_text()
    assert "prose and code" in page
    life = write(copy, "{prose: 0.5, code: 0.5}")
    said = journey("run", life.recipe, "--workspace", life.workspace, "--dry-run")
    assert "data prose=7,code=3 → prose=0.5,code=0.5" in said.out + said.err
    life.recipe.write_text(life.recipe.read_text().replace("0.5, code: 0.5", "7, code: 3"))
    changed = life.recipe.read_text().replace("code.jsonl}", "code.jsonl, dev: 0.05}")
    life.recipe.write_text(changed)
    said = journey("run", life.recipe, "--workspace", life.workspace, "--dry-run")
    assert "a text of its data is new" in said.out + said.err


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{}", "a mixture of no texts"),
        ("{prose: 0.7}", "is a mixture of one text"),
        ("{prose: 0.7, code: 0}", "the weight of code must be a number above 0"),
        ("{prose: 0.7, code: null}", "the weight of code must be a number above 0"),
        ("{prose: 0.7, 'co=da': 1}", '"co=da" cannot stand in a mixture'),
        ("{prose: 0.7, tokenizer: 1}", '"tokenizer" is'),
        ("{prose: {code: 1}}", "the weight of prose must be a number above 0"),
    ],
)
def test_a_mixture_that_cannot_be_is_told_by_its_line(unlived, journey, data, said):
    life = write(unlived, data)
    output = journey("run", life.recipe, "--workspace", life.workspace, "--dry-run")
    assert output.code == 2 and said in output.err and "mixed.yaml:" in output.err, output.err


def test_a_stage_that_takes_one_text_takes_no_mixture(unlived, journey):
    unlived.recipe.write_text(
        unlived.recipe.read_text().replace("{data: prose, vocab_size: 400}", "{data: {prose: 1, code: 1}}")
    )
    output = journey("run", unlived.recipe, "--workspace", unlived.workspace, "--dry-run")
    assert output.code == 2 and "data: must be text" in output.err


def test_the_command_line_mixes_stages_of_the_journey(copy, journey, tmp_path):
    words = ["--data", "prose=0.7,code=0.3", "--tokens", "1024", "--n-ctx", "64", "--n-layer", "1", "--n-embd", "32"]
    done = journey("pretrain", "tokenizer", *words, "--workspace", copy.workspace, "--out", tmp_path / "mine", "--json")
    assert done.code == 0, done.err
    assert {"epochs_prose", "epochs_code"} <= done.json["metrics"].keys()
    assert " tokens read prose" in done.err
    lineage = json.loads((tmp_path / "mine" / "lineage.json").read_text())
    assert lineage["data"]["data:prose"]["id"] == copy.node("prose").id
    assert Corpus(copy.node("prose").path).name == "prose"
