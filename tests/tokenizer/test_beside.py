"""Folders as other tools saved them: tokens beside the vocabulary, with the ids that AutoTokenizer gives."""

import argparse
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, normalizers
from transformers import AutoTokenizer

from journey.errors import JourneyError
from journey.tokenizer import bpe, foreign
from journey.tokenizer.codec import PATTERNS, Merge, vocabulary
from journey.tokenizer.formats import BOS, SPECIALS, Tokenizer

N = 360  # tokens that are no special ones
ROLES = {"<|user|>": N + 1, "<|assistant|>": N + 2, "<|pad|>": N + 3}
TOOLS = {"<tool>": N + 1, "</tool>": N + 2}
LABEL = {"content": "<|label|>", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
TEXTS = [
    "",
    " a",
    "Hello wörld  \n\n x='e\u0301' 're ",
    "中文 👩‍👩‍👧 \x1c\x85 1999 12,345",
    "a<tool>b</tool> <tool> c <TOOL>",
    "def parse_args(self):\r\n\tif x == 17:  # ½ ² ٣",
    "# ## #version: 0.2",
]


@pytest.fixture(scope="module")
def merges() -> list[Merge]:
    return bpe.train(bpe.count_words([inspect.getsource(argparse), "# ## # #"], "gpt2"), N, 0)


@pytest.fixture
def folder(tmp_path: Path, merges: list[Merge]) -> Path:
    """A GPT-2's folder: vocab.json, merges.txt and config.json; <|endoftext|> is the last id."""
    write(tmp_path, "vocab.json", vocabulary(merges, [BOS]))
    lines = [f"{left} {right}" for left, right in merges]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")
    write(tmp_path, "config.json", {"model_type": "gpt2"})
    return tmp_path


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def decoder(ids: dict[str, int], **flags: bool) -> dict[str, Any]:
    plain = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": False}
    return {str(i): {"content": token} | plain | flags for token, i in ids.items()}


def as_transformers_opens_it(folder: Path) -> Tokenizer:
    """Ours, which has the same ids for every token and every text."""
    ours, theirs = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    assert ours.backend.get_vocab() == theirs.get_vocab()
    for text in TEXTS:
        ids = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text) == ids, text
        assert ours.encode_batch([text]) == [ids] and ours.encode_arrays([text])[0].tolist() == ids
    assert foreign.load(folder, "it").encode(TEXTS[4]) == ours.encode(TEXTS[4])
    return ours


MAP = {"bos_token": BOS, "eos_token": BOS, "unk_token": BOS}
FORMS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "roles": {"added_tokens.json": ROLES},
    "roles, named": {
        "added_tokens.json": ROLES,
        "special_tokens_map.json": MAP
        | {"pad_token": "<|pad|>", "additional_special_tokens": ["<|user|>", "<|assistant|>"]},
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"},
    },
    "words": {"added_tokens.json": TOOLS},
    "in another order": {"added_tokens.json": dict(reversed(TOOLS.items()))},
    "with flags": {"special_tokens_map.json": MAP | {"pad_token": LABEL, "cls_token": "[CLS]"}},
    "a name and no id": {"special_tokens_map.json": {"pad_token": "[PAD]", "mask_token": "[MASK]"}},
    "names of the model's own": {
        "tokenizer_config.json": {"image_token": "<image>", "add_bos_token": True, "pad_token": None},
        "special_tokens_map.json": {"audio_token": "<audio>"},
    },
    "more of them": {"tokenizer_config.json": {"extra_special_tokens": ["<|user|>", "<|assistant|>"]}},
    "as a dict": {"tokenizer_config.json": {"extra_special_tokens": {"user_token": "<|user|>"}}},
    "in the config": {"tokenizer_config.json": {"added_tokens_decoder": decoder(TOOLS), "pad_token": "<p>"}},
    "in the config, special": {
        "tokenizer_config.json": {
            "added_tokens_decoder": decoder({BOS: N}, special=True) | decoder(ROLES, special=True, normalized=False)
        },
        "added_tokens.json": {"<ignored>": N + 1},
        "special_tokens_map.json": {"pad_token": "<ignored>"},
    },
    "of one word": {"tokenizer_config.json": {"added_tokens_decoder": decoder({"<tool>": N + 1}, single_word=True)}},
    "with the spaces around": {
        "tokenizer_config.json": {"added_tokens_decoder": decoder(TOOLS, lstrip=True, rstrip=True)}
    },
    "a space before": {"tokenizer_config.json": {"add_prefix_space": True}},
    "of CodeGen": {"tokenizer_config.json": {"tokenizer_class": "CodeGenTokenizer"}},
    "fast": {"tokenizer_config.json": {"tokenizer_class": "GPT2TokenizerFast"}, "config.json": {"model_type": "llama"}},
    "of Qwen3": {"config.json": {"model_type": "qwen3"}, "added_tokens.json": {"<|im_end|>": N + 1}},
    "of Qwen2, by its class": {"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"}},
    "of RoBERTa": {"config.json": {"model_type": "roberta"}},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_vocabulary_and_the_tokens_beside_it(form: str, folder: Path) -> None:
    for name, value in FORMS[form].items():
        write(folder, name, value)
    as_transformers_opens_it(folder)


@pytest.mark.parametrize("form", [form for form in FORMS if "config.json" not in FORMS[form]])
def test_tokens_beside_a_tokenizer_json(form: str, folder: Path) -> None:
    own = Tokenizer.load(folder)
    (folder / "config.json").unlink()
    own.backend.encode_special_tokens = False
    own.backend.save(str(folder / "tokenizer.json"))
    (folder / "vocab.json").unlink()
    for name, value in FORMS[form].items():
        write(folder, name, value)
    config = FORMS[form].get("tokenizer_config.json", {}) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    write(folder, "tokenizer_config.json", {key: value for key, value in config.items() if key != "add_prefix_space"})
    as_transformers_opens_it(folder)


@pytest.mark.parametrize("fast", [True, False])
def test_a_folder_that_transformers_saved(fast: bool, folder: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.add_tokens([AddedToken("<tool>", normalized=False), "</tool>"])
    theirs.add_special_tokens({"pad_token": "[PAD]", "additional_special_tokens": ["<|user|>"]})
    theirs.save_pretrained(folder)
    if not fast:
        (folder / "tokenizer.json").unlink()
        write(folder, "added_tokens.json", {t: i for t, i in theirs.get_added_vocab().items() if i > N})
    ours = as_transformers_opens_it(folder)
    assert ours.backend.get_vocab() == theirs.get_vocab()
    assert {"[PAD]", "<|user|>", BOS} <= ours.special.keys()


def test_which_of_them_are_special(folder: Path) -> None:
    write(folder, "added_tokens.json", ROLES | {"<tool>": N + 4})
    assert Tokenizer.load(folder).special == {BOS: N}
    write(folder, "special_tokens_map.json", FORMS["roles, named"]["special_tokens_map.json"])
    made = Tokenizer.load(folder)
    assert made.special == {BOS: N} | ROLES and made.n_ids == N + 5
    assert made.encode("<|user|>") != [N + 1] and made.encode("<tool>") == [N + 4]
    assert made.decode([N + 1, N + 4]) == "<|user|><tool>"


@pytest.mark.parametrize("named", [True, False])
def test_the_chat_formats_tokens_keep_the_ids_that_they_have(named: bool, folder: Path, tmp_path: Path) -> None:
    write(folder, "added_tokens.json", ROLES)
    if named:
        write(folder, "special_tokens_map.json", FORMS["roles, named"]["special_tokens_map.json"])
    chatty = Tokenizer.load(folder).with_chat_tokens()
    assert chatty.special.items() >= ROLES.items() and set(SPECIALS) <= chatty.special.keys()
    assert sorted(chatty.special.values()) == [*range(N, N + 1 + len(SPECIALS) - 1)]
    (tmp_path / "out").mkdir()
    chatty.save(tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == chatty.backend.get_vocab()


def test_a_token_that_has_only_a_name_has_no_row(folder: Path) -> None:
    write(folder, "special_tokens_map.json", {"pad_token": "[PAD]"})
    made = Tokenizer.load(folder)
    assert (made.special["[PAD]"], made.n_ids) == (N + 1, N + 1)
    chatty = made.with_chat_tokens()
    assert chatty.special["[PAD]"] == N + 1 and chatty.n_ids == N + 1 + len(SPECIALS)


def test_an_id_that_a_file_gives_is_kept_above_a_gap(folder: Path, tmp_path: Path) -> None:
    """nanoGPT's padded rows, the tokens after them; transformers 5 would count on from the vocabulary's size."""
    write(folder, "added_tokens.json", {"<|user|>": 400, "<tool>": 390})
    write(folder, "special_tokens_map.json", {"pad_token": "[PAD]"})
    made = Tokenizer.load(folder)
    ids = made.backend.get_vocab()
    assert (ids["<|user|>"], ids["<tool>"], ids["[PAD]"], made.n_ids) == (400, 390, 401, 401)
    chatty = made.with_chat_tokens()
    assert chatty.special["<|user|>"] == 400 and sorted(chatty.special.values())[2:] == [*range(401, 407)]
    (tmp_path / "out").mkdir()
    chatty.save(tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs.get_vocab() == chatty.backend.get_vocab() == Tokenizer.load(tmp_path / "out").backend.get_vocab()
    for text in TEXTS:
        assert theirs.encode(text) == chatty.encode(text) == made.encode(text)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("added_tokens.json", {"<a>": 5}, "'&' and '<a>' both have the id 5"),
        ("added_tokens.json", {"<a>": 400, "<b>": 400}, "'<a>' and '<b>' both have the id 400"),
        ("added_tokens.json", {"<a>": "7"}, "the id of '<a>' is '7': it should be a number"),
        ("added_tokens.json", {"<a>": -1}, "the id of '<a>' is -1"),
        ("added_tokens.json", {"<a>": 1.0}, "the id of '<a>' is 1.0"),
        ("added_tokens.json", {"<a>": True}, "the id of '<a>' is True"),
        ("added_tokens.json", {"<a>": 2**32}, "the id of '<a>' is 4294967296"),
        ("added_tokens.json", {BOS: 3}, r"vocab.json: '<\|endoftext\|>' has the id 360, and 3 beside it"),
        ("added_tokens.json", ["<a>"], "added_tokens.json is not a list of added tokens"),
        ("special_tokens_map.json", [], "special_tokens_map.json should hold an object"),
        ("special_tokens_map.json", {"pad_token": {"lstrip": True}}, "None is no token"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": "<a>"}}, "should be an object of ids"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9" * 5000: "<a>"}}, "should be an object of ids"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"400": "<a>", "401": "<a>"}}, "gives one token two ids"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"400": 7}}, "7 beside the vocabulary is no token"),
        ("tokenizer_config.json", {"additional_special_tokens": [7]}, "7 beside the vocabulary is no token"),
        ("tokenizer_config.json", {"pad_token": "<\ud800>"}, r"'<\\ud800>' is no token"),
        ("added_tokens.json", {"<\ud800>": 400}, r"added_tokens.json: '<\\ud800>' is no token"),
        ("tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"}, "its tokenizer_class CLIPTokenizer is none of"),
        ("tokenizer_config.json", {"tokenizer_class": ["x"]}, "its tokenizer_class"),
    ],
)
def test_what_cannot_be_is_told(name: str, value: Any, said: str, folder: Path) -> None:
    write(folder, name, value)
    with pytest.raises(JourneyError, match=said) as told:
        Tokenizer.load(folder)
    assert "\n" not in str(told.value)


def test_a_vocabulary_that_is_read_in_another_way_is_none_of_our_patterns(folder: Path) -> None:
    """So that nothing takes it for GPT-2's: neither tiktoken's fast way nor its file, and no partner."""
    write(folder, "tokenizer_config.json", {"add_prefix_space": True})
    made = Tokenizer.load(folder)
    assert made.pattern == "ByteLevel (gpt2 and add_prefix_space)" and made._tiktoken is None
    with pytest.raises(JourneyError, match="tiktoken knows only a split pattern and ranks"):
        made.save_tiktoken(folder / "a.tiktoken")
    made.backend.normalizer = normalizers.NFC()
    assert made.pattern not in PATTERNS
