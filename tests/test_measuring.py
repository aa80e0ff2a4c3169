"""What is taken anew and what is kept: one file a (node, measure), with toys of measures that count how often they were
asked."""

import dataclasses
import importlib.metadata
import json
import sys
from types import ModuleType

import pytest

from journey import measures, measuring
from journey.errors import JourneyError
from journey.measure import Bench, Drawn, Measure, measure
from journey.measuring import Measuring
from journey.scores import Items, Score, Taken
from journey.stages.run import Stopped

from .conftest import Silent


def take(node, parent, texts, workspace, chosen, seed=3, console=None, split="test"):
    return measuring.take(node, parent, texts, workspace, chosen, seed=seed, console=console or Silent(), split=split)


@dataclasses.dataclass(frozen=True)
class Toy:
    """Settings of a toy."""

    size: int = 2


class Toys:
    """Measures that keep their names in `asked` when they are taken; they stand in the table until the test ends."""

    def __init__(self, patch):
        self.patch, self.asked = patch, []

    def add(self, name, body=None, of="model", **declared) -> Measure:
        def toy(bench: Bench, config: Toy) -> Taken:
            self.asked.append(name)
            if body:
                body(bench)
            rows = ({"id": str(i), "value": float(i)} for i in range(config.size))
            return Taken({"items": Items.of(rows)}, [Score(name, name, "value", brief=True)])

        toy.__name__ = name
        made = measure(of, name, "", keys=(name,), **declared)(toy)
        module = ModuleType(f"journey.measures.{name}")
        setattr(module, name, made)
        self.patch.setitem(sys.modules, module.__name__, module)
        self.patch.setitem(measures.MEASURES, name, "a toy")
        return made

    @property
    def new(self):
        """The names since the last look."""
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def toys(monkeypatch):
    return Toys(monkeypatch)


READS = {"none": (), "documents": ("documents",), "questions": ("questions",), "parent": ("parent",)}


@pytest.fixture
def four(toys):
    """Four toys, of which each reads another thing."""
    for name, reads in READS.items():
        toys.add(f"of_{name}", reads=reads, libraries=("numpy",) if name == "none" else ())
    return toys


def only(*names, **drawn):
    return Measuring(Drawn(**drawn), {name: Toy() for name in names})


ALL = [f"of_{name}" for name in READS]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, []),
        ({"seed": 4}, ALL),
        ({"texts": "prose"}, ["of_documents", "of_questions"]),
        ({"texts": None}, ["of_documents", "of_questions"]),
        ({"parent": None}, ["of_parent"]),
        ({"parent": "chat"}, ["of_parent"]),
        ({"drawn": {"documents": 9}}, ["of_documents"]),
        ({"drawn": {"questions": 9}}, ["of_questions"]),
        ({"drawn": {"choices": 9}}, []),
        ({"settings": "of_parent"}, ["of_parent"]),
        ({"version": "of_documents"}, ["of_documents"]),
        ({"library": "numpy"}, ["of_none"]),
        ({"library": "lm_eval"}, []),
        ({"weights": "base"}, ["of_parent"]),
        ({"weights": "coder"}, ALL),
        ({"split": "dev"}, ALL),
    ],
    ids=str,
)
def test_what_was_measured_is_measured_again_only_with_other_inputs(copy, tmp_path, four, monkeypatch, change, again):
    def arguments():
        return {
            "node": copy.node("coder"),
            "parent": copy.node("base"),
            "texts": {"code": copy.node("code")},
            "workspace": tmp_path / "w",
            "chosen": only(*ALL),
        }

    taken = take(**arguments())
    assert list(taken.new) == four.new == ALL
    assert take(**arguments()).new == () and four.new == []
    now = arguments() | {key: change[key] for key in ("seed", "split") if key in change}
    if "texts" in change:
        now["texts"] = {"code": copy.node(change["texts"])} if change["texts"] else {}
    if "parent" in change:
        now["parent"] = change["parent"] and copy.node(change["parent"])
    if "drawn" in change:
        now["chosen"] = only(*ALL, **change["drawn"])
    if name := change.get("settings"):
        now["chosen"] = Measuring(configs=only(*ALL).configs | {name: Toy(size=3)})
    if name := change.get("version"):
        measures.load(name).version += 1
    if library := change.get("library"):
        version = importlib.metadata.version
        monkeypatch.setattr(importlib.metadata, "version", lambda of: "0" if of == library else version(of))
    if name := change.get("weights"):  # an id says what went in: `--from` after an update may bring other weights
        path = copy.node(name).path / "lineage.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": "other"}))
        now |= {"node": copy.node("coder"), "parent": copy.node("base")}
    ask = {"measuring" if key == "chosen" else key: value for key, value in ({"seed": 3} | now).items()}
    assert measuring.is_taken(**ask) == (not again)
    assert list(take(**now).new) == four.new == again
    assert take(**now).new == () and measuring.is_taken(**ask)


def test_every_measure_has_a_file_of_its_own_and_dev_stands_beside_test(life, tmp_path, four):
    node = life.node("coder")
    arguments = (node, None, {"code": life.node("code")}, tmp_path, only(*ALL))
    for split in ("test", "dev"):
        take(*arguments, split=split)
    folder = tmp_path / "measurements" / node.id
    assert {path.name for path in folder.iterdir()} == {f"{name}{end}.json" for name in ALL for end in ("", "-dev")}
    assert measuring.place(node, tmp_path, "of_none", "dev") == folder / "of_none-dev.json"
    about = json.loads((folder / "of_none-dev.json").read_text())
    assert (about["measure"], about["version"], about["node"], about["split"]) == ("of_none", 1, node.id, "dev")
    assert list(measuring.read(node, tmp_path)) == ALL  # the test split alone
    assert measuring.brief(measuring.read(node, tmp_path)) == ", ".join(f"{name} 0.500" for name in ALL)


def test_the_splits_have_other_items(life, tmp_path, toys):
    seen = {}
    toys.add("reader", lambda bench: seen.setdefault(bench.split, bench.documents["code"]), reads=("documents",))
    for split in ("test", "dev"):
        take(life.node("coder"), None, {"code": life.node("code")}, tmp_path, only("reader"), split=split)
    ids = {split: {document.id for document in found} for split, found in seen.items()}
    assert ids["test"] and ids["dev"] and not ids["test"] & ids["dev"]


@pytest.mark.parametrize("k", range(len(ALL)))
def test_ctrl_c_between_two_measures_keeps_what_was_taken(life, tmp_path, four, k):
    console = Silent(lambda times: setattr(console, "stopping", times == k))
    console.stopping = k == 0
    arguments = (life.node("coder"), None, {"code": life.node("code")}, tmp_path, only(*ALL))
    with pytest.raises(Stopped):
        take(*arguments, console=console)
    assert four.new == ALL[:k] == list(measuring.read(life.node("coder"), tmp_path))
    assert list(take(*arguments).new) == four.new == ALL[k:]
    assert list(measuring.read(life.node("coder"), tmp_path)) == ALL


def test_a_kill_in_a_measure_costs_that_one(life, tmp_path, four, toys):
    def killed(bench):
        raise KeyboardInterrupt

    toys.add("last")
    toys.add("of_questions", killed)  # as the third
    arguments = (life.node("coder"), None, {"code": life.node("code")}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        take(*arguments, only(*ALL, "last"))
    assert four.new == ALL[:3] and list(measuring.read(life.node("coder"), tmp_path)) == ALL[:2]
    assert not list(tmp_path.rglob("*.tmp"))
    toys.add("of_questions")
    assert list(take(*arguments, only(*ALL, "last")).new) == [*ALL[2:], "last"]


def test_a_new_measure_takes_itself_alone_and_one_less_takes_nothing(life, tmp_path, four):
    arguments = (life.node("coder"), None, {"code": life.node("code")}, tmp_path)
    take(*arguments, only(*ALL[:3]))
    assert list(take(*arguments, only(*ALL)).new) == ALL[3:]
    fewer = take(*arguments, only(*ALL[:1]))
    assert fewer.new == () and list(fewer.taken) == ALL[:1]


@pytest.mark.parametrize("what", ["documents", "questions", "choices", "parent"])
def test_to_read_what_is_not_declared_is_a_mistake(life, tmp_path, toys, what):
    """It would be missing in the key."""
    arguments = (life.node("coder"), life.node("base"), {"code": life.node("code")}, tmp_path, only("curious"))
    toys.add("curious", lambda bench: getattr(bench, what))
    with pytest.raises(AssertionError, match=rf"this measure reads {what}: declare it in reads="):
        take(*arguments)
    toys.add("curious", lambda bench: getattr(bench, what), reads=(what,))
    assert take(*arguments).new == ("curious",)


def test_the_parents_model_is_the_parent_too(life, tmp_path, toys):
    toys.add("curious", lambda bench: bench.before)
    with pytest.raises(AssertionError, match="this measure reads parent"):
        take(life.node("coder"), life.node("base"), {}, tmp_path, only("curious"))


def test_what_was_opened_is_shared(life, tmp_path, toys, monkeypatch):
    """A node is opened once for all measures that need its model, and never for those that do not."""
    from journey import measure as benches

    opened, open_model = [], benches.open_model
    monkeypatch.setattr(benches, "open_model", lambda node: opened.append(node.name) or open_model(node))
    toys.add("lazy")
    for name in ("first", "second"):
        toys.add(name, lambda bench: (bench.model, bench.tokenizer, bench.before), reads=("parent",))
    take(life.node("coder"), life.node("base"), {}, tmp_path, only("lazy"))
    assert opened == []
    take(life.node("coder"), life.node("base"), {}, tmp_path, only("lazy", "first", "second"))
    assert sorted(opened) == ["base", "coder"]


def test_the_measures_of_a_key(life):
    assert measuring.measures_of("bits_per_byte.docs", ["docs"]) == ["bits_per_byte"]
    assert measuring.measures_of("answer_loss.none", []) == ["answers", "retrieval"]
    with pytest.raises(JourneyError, match=r'no score "bits_per_byte.dosc", did you mean "bits_per_byte.docs"\?'):
        measuring.measures_of("bits_per_byte.dosc", ["docs"])
    with pytest.raises(JourneyError, match=r'no score "bits_per_byte\.docs"'):
        measuring.measures_of("bits_per_byte.docs", ["code"])
