"""Files of ids, merges and ranks as people have them: what is read of them is what the `tokenizers` library reads."""

import argparse
import base64
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from tokenizers import ByteLevelBPETokenizer, models
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

from journey.errors import JourneyError
from journey.tokenizer import foreign
from journey.tokenizer.codec import ALPHABET, PATTERNS, unspell, vocabulary
from journey.tokenizer.formats import BOS, SPECIALS, Tokenizer
from journey.tokenizer.reading import open_backend

TEXT = inspect.getsource(argparse) + "# ## # # famous"
TEXTS = ["", "famous arguments  \n\n# ## 12", "Straße 中文 \u0301 x='re", "<|endoftext|>"[:5]]
MERGES = [("a", "b"), ("#", "#"), ("#", "Ġ"), ("ab", "c"), ("#v", "e")]
IDS = vocabulary([*MERGES, ("#", "v"), ("#versio", "n")], [BOS])


def write(folder: Path, ids: Any, merges: bytes) -> Path:
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "merges.txt").write_bytes(merges)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    return folder


def moved(ids: dict[str, int], place: int) -> dict[str, int]:
    """The ids with <|endoftext|> at another place and the others in order around it."""
    tokens = [token for token in sorted(ids, key=ids.__getitem__) if token != BOS]
    return {token: i for i, token in enumerate([*tokens[:place], BOS, *tokens[place:]])}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `ByteLevelBPETokenizer` saves one: <|endoftext|> is id 0."""
    folder = tmp_path_factory.mktemp("trained")
    made = ByteLevelBPETokenizer()
    made.train_from_iterator([TEXT], vocab_size=400, special_tokens=[BOS], show_progress=False)
    made.save_model(str(folder))
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    return folder


@pytest.mark.parametrize("place", [0, 5, 200, 399])
def test_the_document_mark_keeps_its_id_wherever_it_stands(place: int, trained: Path, tmp_path: Path) -> None:
    ids = json.loads((trained / "vocab.json").read_text())
    write(tmp_path, moved(ids, place), (trained / "merges.txt").read_bytes())
    made, theirs = Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert (made.bos, made.special, made.stop) == (place, {BOS: place}, {place})
    assert made.backend.get_vocab() == theirs.get_vocab() == moved(ids, place)
    for text in [*TEXTS, TEXT[:5000]]:
        assert made.encode_batch([text]) == [made.encode(text)] == [theirs.encode(text)]
        assert made.decode(made.encode(text)) == text and place not in made.encode(text)
    assert made._tiktoken, "the fast way is taken here too"
    assert foreign.load(tmp_path, "it").encode(TEXT[:500]) == made.encode(TEXT[:500])
    chatty = made.with_chat_tokens()
    assert sorted(chatty.special.values()) == [place, *range(400, 400 + len(SPECIALS) - 1)] or place == 399
    (tmp_path / "out").mkdir()
    chatty.save(tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == chatty.backend.get_vocab()


def test_ids_with_gaps(trained: Path, tmp_path: Path) -> None:
    ids = {
        token: i + 10 * (i > 100) + 100 * (i > 300)
        for token, i in json.loads((trained / "vocab.json").read_text()).items()
    }
    made = Tokenizer.load(write(tmp_path, ids, (trained / "merges.txt").read_bytes()))
    assert made.backend.get_vocab() == ids and (made.vocab_size, made.n_ids) == (400, 510)
    assert made.encode_batch(TEXTS) == [made.encode(text) for text in TEXTS] and made._tiktoken
    chatty = made.with_chat_tokens()
    assert sorted(chatty.special.values()) == [0, *range(510, 516)] and chatty.n_ids == 516
    assert len(set(chatty.backend.get_vocab().values())) == chatty.vocab_size == 406
    chatty.save_tiktoken(tmp_path / "a.tiktoken")
    again = Tokenizer.load(tmp_path / "a.tiktoken")
    assert again.backend.get_vocab() == chatty.backend.get_vocab() and again.special == chatty.special
    assert again.encode_batch(TEXTS) == made.encode_batch(TEXTS)


def ranks_file(path: Path, ranks: dict[bytes, int]) -> Path:
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))
    return path


@pytest.mark.parametrize("mark", [None, 256, 300])
def test_ranks_with_a_gap(mark: int | None, tmp_path: Path) -> None:
    """p50k_base leaves out 50256, which is its <|endoftext|>; without being told nobody can know that."""
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"ab": 257, b" a": 258, b"abc": 270}
    file = ranks_file(tmp_path / "gap.tiktoken", ranks)
    if mark is not None:
        rest = {"name": "gap", "pat_str": PATTERNS["gpt2"], "special_tokens": {BOS: mark}}
        (tmp_path / "gap.tiktoken.json").write_text(json.dumps(rest))
    made = Tokenizer.load(file)
    assert made.special == {BOS: mark or 271} and made.n_ids == 1 + max(270, made.bos)
    theirs = tiktoken.Encoding("", pat_str=PATTERNS["gpt2"], mergeable_ranks=ranks, special_tokens=made.special)
    for text in ("ab abc", "cab ab", "a b"):
        assert theirs.encode_ordinary(text) == made.encode(text) == made.encode_batch([text])[0]
    assert {unspell(token): i for token, i in made.backend.get_vocab().items() if token != BOS} == ranks
    assert foreign.load(file, "it", "gpt2").encode("ab abc") == made.encode("ab abc")


def test_lines_of_ranks_that_cannot_be(tmp_path: Path) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    file = ranks_file(tmp_path / "a.tiktoken", ranks)
    whole = file.read_bytes()
    file.write_bytes(whole + b"\n\n")
    assert Tokenizer.load(file).bos == 256
    for line, said in (
        (b"YWI= 5\n", "both have the id 5: give each its own"),
        (b"YWI= -1\n", "the id of 'ab' is -1: it should be a number from 0"),
        (b"IQ== 300\n", "line 257: the token IQ== has a rank already"),
        (b"YWI= 9" + b"9" * 5000 + b"\n", "line 257: not a token in base64 and its rank"),
        (b"Y!I= 300\n", "line 257: not a token in base64"),
    ):
        file.write_bytes(whole + line)
        with pytest.raises(JourneyError, match=said):
            Tokenizer.load(file)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"!": 3, '"': 3}, "vocab.json: '!' and '\"' both have the id 3: give each its own"),
        ({"!": -1}, "the id of '!' is -1: it should be a number"),
        ({"!": "0"}, "the id of '!' is '0'"),
        ({"!": 0.0}, "the id of '!' is 0.0"),
        ({"!": None}, "the id of '!' is None"),
        ({"!": False}, "the id of '!' is False"),
        ({"!": 10**9}, "the id of '!' is 1000000000"),
        ({"!": [0]}, r"the id of '!' is \[0\]"),
        ({"\ud800": 5}, r"'\\ud800' is no token: write its text"),
    ],
)
def test_ids_that_can_be_none_are_named(ids: dict[str, Any], said: str, tmp_path: Path) -> None:
    write(tmp_path, IDS | ids, b"a b\n")
    for read in (Tokenizer.load, lambda folder: foreign.load(folder, "it")):
        with pytest.raises(JourneyError, match=said) as told:
            read(tmp_path)
        assert "\n" not in str(told.value)


def test_an_id_twice_in_a_tokenizer_json_is_named(tmp_path: Path) -> None:
    backend = Tokenizer.from_merges([("a", "b")], specials=[BOS]).backend
    state = json.loads(backend.to_str())
    state["model"]["vocab"]["ab"] = 5
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(JourneyError, match="both have the id 5"):
        Tokenizer.load(tmp_path)
    state["model"]["vocab"]["ab"] = 256
    state["added_tokens"].append(state["added_tokens"][0] | {"content": "<a>", "id": 300})
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(JourneyError, match="'<a>' has the id 300, but every reader of the file gives it 258"):
        Tokenizer.load(tmp_path)
    state["model"]["vocab"]["<a>"] = 300  # as is said there
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    assert Tokenizer.load(tmp_path).special == {BOS: 257, "<a>": 300}


LINES = b"a b\n# #\nab c\n"
SAME = {
    "the library's": b"#version: 0.2\n" + LINES,
    "no version": LINES,
    "no version, and its first token is a number sign": b"# #\na b\nab c\n",
    "another version line": b"#version: 0.2 - Trained by `huggingface/tokenizers`\n" + LINES,
    "no last line end": b"#version: 0.2\n" + LINES[:-1],
    "line ends of Windows": (b"#version: 0.2\n" + LINES).replace(b"\n", b"\r\n"),
    "nothing": b"",
    "only a version": b"#version: 0.2\n",
}
MORE = {  # which the library refuses
    "an empty last line": b"#version: 0.2\n" + LINES + b"\n",
    "some of them": LINES + b"\n  \n\r\n\n",
    "a byte order mark": b"\xef\xbb\xbf#version: 0.2\n" + LINES,
    "a byte order mark and no version": b"\xef\xbb\xbf" + LINES,
}


@pytest.mark.parametrize("form", SAME)
def test_merges_are_those_that_the_library_reads(form: str, tmp_path: Path) -> None:
    write(tmp_path, IDS, SAME[form])
    theirs = Backend(models.BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")))
    assert Tokenizer.load(tmp_path).merges == [tuple(m) for m in json.loads(theirs.to_str())["model"]["merges"]]
    opened = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("abc ab", "## #", "# # a"):
        assert Tokenizer.load(tmp_path).encode(text) == opened.encode(text)


@pytest.mark.parametrize("form", MORE)
def test_merges_that_an_editor_has_touched(form: str, tmp_path: Path) -> None:
    made = Tokenizer.load(write(tmp_path, IDS, MORE[form]))
    assert made.merges == [("a", "b"), ("#", "#"), ("ab", "c")]


@pytest.mark.parametrize(
    ("merges", "said"),
    [
        (b"a b\n\nab c\n", "merges.txt, line 2: not two tokens that merge to a third"),
        (b"#version: 0.2\na b\nab\n", "line 3"),
        (b"a b\n# comment\n", "line 2"),
        (b"a  b\n", "line 1"),
        (b"a\tb\n", "line 1"),
        (b"a b c\n", "line 1"),
        (b"b a\n", "line 1"),
        (b"\xff\xfea\x00", "merges.txt: byte 0 is not UTF-8"),
    ],
)
def test_merges_that_are_damaged_are_named(merges: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match=said):
        Tokenizer.load(write(tmp_path, IDS, merges))


def hostile() -> dict[str, bytes]:
    """tokenizer.json files that make the library panic, or that are nothing of the kind."""
    state = json.loads(Tokenizer.from_merges([("a", "b"), ("ab", "c")], specials=[BOS]).backend.to_str())
    model = state["model"]

    def changed(**changes: Any) -> bytes:
        return json.dumps(state | changes).encode()

    empty = {"type": "Replace", "pattern": {"String": ""}, "content": "x"}
    deep = b'{"type": "Sequence", "pretokenizers": [' * 100_000
    return {
        "a prefix longer than a token": changed(model=model | {"continuing_subword_prefix": "##"}),
        "an empty pattern": changed(normalizer=empty),
        "nested": b"[" * 100_000,
        "nested steps": json.dumps(state).encode().replace(b'"pre_tokenizer": {', b'"pre_tokenizer": ' + deep + b"{"),
        "a list": b"[]",
        "a number": b"7",
        "no model": json.dumps({key: value for key, value in state.items() if key != "model"}).encode(),
        "a model of a wrong type": changed(model=[]),
        "merges of a wrong type": changed(model=model | {"merges": [1, None]}),
        "a merge longer than all tokens": changed(model=model | {"merges": [["abc", "abcabcabcabcabcabcabcabc"]]}),
        "half a character": changed(added_tokens=[{**state["added_tokens"][0], "content": "\ud800"}]),
        "merges out of the vocabulary": changed(model=model | {"merges": [["x", "y"]]}),
        "a vocabulary of a wrong type": changed(model=model | {"vocab": {"a": -1}}),
        "added tokens of a wrong type": changed(added_tokens=[7]),
        "a long number": changed().replace(b'"id": ', b'"id": ' + b"9" * 5000),
        "no UTF-8": b"\xff" + changed(),
    }


@pytest.mark.parametrize("kind", hostile())
def test_what_the_library_cannot_read_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(hostile()[kind])
    others = hostile()[kind][:1] != b"{"  # which may be another kind of file
    for read in (Tokenizer.load, Tokenizer.load if others else lambda folder: foreign.load(folder, "it")):
        with pytest.raises(
            JourneyError, match=r"tokenizer\.json( is damaged| is no byte-level BPE|: the id of)"
        ) as told:
            read(tmp_path)
        assert "\n" not in str(told.value) and len(str(told.value)) < 400


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + Tokenizer.from_merges([("a", "b")], specials=[BOS]).backend.to_str().encode()
    assert open_backend(data, tmp_path / "a.json").get_vocab_size() == 258


def test_another_kind_of_model_is_none_of_ours(tmp_path: Path) -> None:
    backend = Backend(models.Unigram([(token, 0.0) for token in ALPHABET], None, False))
    backend.pre_tokenizer = Tokenizer.from_merges([], specials=[]).backend.pre_tokenizer
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(JourneyError, match="is no byte-level BPE"):
        Tokenizer.load(tmp_path)
    assert foreign.load(tmp_path, "it").kind == "byte-level Unigram"
