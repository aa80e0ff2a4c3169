"""nanoGPT's characters: their ids are kept, any other text can be written, and no meta.pkl is believed."""

import os
import pickle
import random
import unicodedata

import pytest
from transformers import AutoTokenizer

from journey.data import vocabularies
from journey.errors import JourneyError
from journey.files import write_bytes
from journey.tokenizer.characters import Characters
from journey.tokenizer.formats import SPECIALS, Tokenizer

SHAKESPEARE = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # tinyshakespeare's 65
TEXTS = {
    "shakespeare": SHAKESPEARE,
    "one": "a",
    "accents": "aéèêßÿĀ ğİı’–…\xa0",
    "Chinese": "你好世界佀佁佂，。\n 的一是",
    "emoji": "🙂🙃👍🏽👩\u200d💻 a1",
    "combining": "e\u0301a\u0323\u0307 क\u094dष",
    "scripts": "абв αβγ אבג ابت ไทย ひらがな 한국어",
    "all bytes of two": "".join(map(chr, range(0x80, 0x800, 7))),
    "the visible bytes": "Ġ Ċ ĉ ł Ń",
    "control": "".join(map(chr, range(32))) + "\x7f\x80\x85\x9f\ufeff\ufffd",
    "high": "\U0010ffff\U000e0001\U00020000\uffff\ue000",
}


def meta_of(text, order=sorted):
    characters = order(set(text))
    stoi = {character: i for i, character in enumerate(characters)}
    return {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": stoi}


def shuffled(characters):
    return random.Random(1).sample(sorted(characters), len(characters))


@pytest.mark.parametrize("order", [sorted, shuffled])
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_of_known_characters_has_nanogpts_ids(tmp_path, name, order):
    meta = meta_of(TEXTS[name], order)
    made = Characters.of(meta, "meta.pkl")
    assert made.n_characters == meta["vocab_size"]
    made.with_chat_tokens().save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.load(tmp_path)
    choose = random.Random(0)
    texts = [TEXTS[name], *("".join(choose.choices(list(meta["stoi"]), k=200)) for _ in range(20))]
    expected = [[meta["stoi"][character] for character in text] for text in texts]
    for encode in (made.encode, theirs.encode, ours.encode):
        assert [encode(text) for text in texts] == expected
    assert ours.encode_batch(texts) == expected == [ids.tolist() for ids in ours.encode_arrays(texts)]
    assert [ours.decode(ids) for ids in expected] == texts == [theirs.decode(ids) for ids in expected]


def test_any_other_text_comes_back_too(tmp_path):
    tokenizer = Characters.of(meta_of("ab é你"), "meta.pkl").with_chat_tokens()
    for text in ("Zq 佁🙂\t\0 ü", "é" + "佀" + "a", unicodedata.normalize("NFD", "é")):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(i < tokenizer.n_ids for i in ids)
    # 256 bytes, three characters of them; é of two bytes and 你 of three, which is made by way of a part
    assert tokenizer.n_ids == 256 + 1 + 2 + len(SPECIALS)
    assert sorted(tokenizer.backend.get_vocab().values()) == list(range(tokenizer.n_ids))


def test_many_characters_are_no_matter_of_minutes():
    made = Characters.of(meta_of("".join(map(chr, range(0x4E00, 0x9FFF)))), "meta.pkl")
    assert made.encode("一丁") == [0, 1]


def test_it_is_found_as_a_file_in_a_folder_and_beside_a_checkpoint(tmp_path):
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta_of(SHAKESPEARE)))
    for checkpoint, given in [(None, tmp_path / "meta.pkl"), (None, tmp_path), (tmp_path / "ckpt.pt", "auto")]:
        found, where = vocabularies.find(checkpoint, str(given), "gpt2")
        assert isinstance(found, Characters) and found.n_characters == 65 and where
    Tokenizer.from_merges([]).backend.save(str(tmp_path / "tokenizer.json"))
    assert not isinstance(vocabularies.find(tmp_path / "ckpt.pt", "auto", "gpt2")[0], Characters)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickle_is_read(tmp_path, protocol):
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta_of(TEXTS["Chinese"]), protocol))
    assert vocabularies.find(None, str(tmp_path / "meta.pkl"))[0].n_characters == len(set(TEXTS["Chinese"]))


class Runs:
    def __reduce__(self):
        return os.system, ("touch canary",)


GOOD = meta_of("abc")
BAD = {
    "a list": ["a", "b"],
    "nothing": {},
    "no itos": {"vocab_size": 3, "stoi": GOOD["stoi"]},
    "GPT-2's meta": {"vocab_size": 50257},
    "an empty one": {"vocab_size": 0, "itos": {}, "stoi": {}},
    "a gap": GOOD | {"itos": {0: "a", 1: "b", 3: "c"}},
    "words": GOOD | {"itos": {0: "a", 1: "b", 2: "cd"}},
    "an empty character": GOOD | {"itos": {0: "a", 1: "b", 2: ""}},
    "bytes": GOOD | {"itos": {0: b"a", 1: b"b", 2: b"c"}},
    "numbers": GOOD | {"itos": {0: 1, 1: 2, 2: 3}},
    "half a character": GOOD | {"itos": {0: "a", 1: "b", 2: "\ud800"}},
    "one twice": GOOD | {"itos": {0: "a", 1: "b", 2: "a"}},
    "another stoi": GOOD | {"stoi": {"a": 0, "b": 2, "c": 1}},
    "another size": GOOD | {"vocab_size": 4},
    "a size of text": GOOD | {"vocab_size": "3"},
    "a call": Runs(),
    "a call as the size": GOOD | {"vocab_size": Runs()},
    "a call as characters": GOOD | {"itos": Runs()},
    "a call as a character": GOOD | {"itos": {0: "a", 1: "b", 2: Runs()}},
    "a call as the other way": GOOD | {"stoi": Runs()},
}


@pytest.mark.parametrize("name", BAD)
def test_another_pickle_is_one_line_and_nothing_is_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_bytes(tmp_path / "meta.pkl", pickle.dumps(BAD[name]))
    with pytest.raises(JourneyError, match=r"meta\.pkl") as error:
        vocabularies.find(None, "meta.pkl")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"hello", b"\x80\x04", pickle.dumps(GOOD)[:-9], b"\x80\x02" + b"]" * 99]
)
def test_a_damaged_pickle_is_named(tmp_path, data):
    (tmp_path / "meta.pkl").write_bytes(data)
    with pytest.raises(JourneyError, match=r"meta\.pkl: a (damaged|pickle without)"):
        vocabularies.find(None, str(tmp_path / "meta.pkl"))


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "meta.pkl")
    with pytest.raises(JourneyError, match="is no ordinary file"):
        vocabularies.find(None, str(tmp_path / "meta.pkl"))
