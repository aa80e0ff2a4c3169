"""What is written under a JSON schema or a regex, against jsonschema and `re`; and what cannot be, is said at once."""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from journey.chat import BOS
from journey.errors import JourneyError
from journey.infer import trial
from journey.infer.grammar import LONGEST, Constraint, Grammar
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.characters import Characters
from journey.tokenizer.formats import SPECIALS, Tokenizer, byte_level, pre_tokenizer

DATA = Path(os.environ.get("JOURNEY_DATA", "absent")) / "tokenizer" / "gpt2"
JSON = '{"name":"numpy","kind":"array","n":[1,2,3],"ok":true,"ratio":0.25,"nested":{"é":null}}' * 9
WORDS = bpe.train(bpe.count_words([argparse.__doc__, JSON]), 400, len(SPECIALS))
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "n": {"enum": [1, 20, 300]}},
    "required": ["city"],
    "additionalProperties": False,
}
SCHEMAS = {
    "call": {
        "type": "object",
        "properties": {
            "name": {"enum": ["add", "addAll", "é🙂"]},
            "x": {"type": "integer", "minimum": -5, "maximum": 1200},
            "how": {"type": "string", "pattern": "^[a-c<|>é]{1,9}$"},
        },
        "required": ["name", "x", "how"],
        "additionalProperties": False,
    },
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "v": {"type": "boolean"},
                    "kids": {"type": "array", "maxItems": 1, "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["v"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "either": {
        "anyOf": [
            {"type": "null"},
            {"const": {"a": ['\n"\\', 1.5]}},
            {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 999},
        ]
    },
    "list": {
        "type": "array",
        "minItems": 2,
        "maxItems": 4,
        "items": {**CITY, "required": ["city"], "maxProperties": 2},
    },
    "when": {"type": "string", "format": "date-time"},
}
PATTERNS = [
    r"[0-9]{3}-[a-c]{1,9}",
    r"(yes|no|<\|(end|user)\|>)(,(yes|no)){0,9}",
    r"é🙂?[^a-z\n]{0,4}",
    r"/a\\b\"'(\n|x)",
    r"",
]


def spaced():
    """A tokenizer that puts a space before every text, and brings it to NFC: what must come is not what it reads."""
    backend = byte_level(json.loads(Tokenizer.from_merges(WORDS).backend.to_str())["model"]["vocab"], WORDS, "gpt2")
    backend.pre_tokenizer = pre_tokenizer("gpt2", add_prefix_space=True)
    backend.normalizer = normalizers.NFC()
    backend.add_special_tokens(list(SPECIALS))
    return Tokenizer(backend, "gpt2")


TOKENIZERS = {
    "words": Tokenizer.from_merges(WORDS),
    "bytes": Tokenizer.from_merges([]),
    "base": Tokenizer.from_merges(WORDS, "llama3", [BOS]),  # as a model from elsewhere: one stop id
    "characters": Characters.of({"itos": [*'\n"{}[]:,0123456789abcdefghinopx-é🙂']}, "meta.pkl"),  # none
    "spaced": spaced(),
    # Some special tokens have only a name, and no row in the model's head.
    "named": Tokenizer(Tokenizer.from_merges(WORDS).backend, "gpt2", len(WORDS) + 256 + 1),
}
if DATA.is_dir():
    TOKENIZERS["gpt2"] = Tokenizer.load(DATA).with_chat_tokens()
tokenizers = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())
WHOLE = TOKENIZERS["words"]


def write(constraint: Constraint, tokenizer: Tokenizer, seed: int, most: int = 600) -> list[int] | None:
    """What random logits write, the end left out; None where they do not come to one."""
    draws, ids = torch.Generator().manual_seed(seed), list[int]()
    while len(ids) < most:
        logits = torch.randn(tokenizer.n_ids + 40, generator=draws)
        logits[tokenizer.n_ids :] = 99  # rows that fill a head up
        constraint.allow(logits)
        if constraint.done and not tokenizer.stop:
            return ids
        token = int(logits.argmax())
        constraint.take(token)
        if token in tokenizer.stop:
            assert constraint.done
            return ids
        ids.append(token)
    return None


def can_follow(constraint: Constraint, tokenizer: Tokenizer) -> set[int]:
    logits = torch.zeros(tokenizer.n_ids)
    constraint.allow(logits)
    return {*logits.isfinite().nonzero().flatten().tolist()}


@tokenizers
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_random_logits_write_what_the_schema_allows(tokenizer, schema):
    grammar = Grammar.json_schema(tokenizer, schema)
    validator = jsonschema.Draft202012Validator(schema)
    found = [write(grammar.start(), tokenizer, seed) for seed in range(20)]
    assert None not in found
    texts = [b"".join(map(tokenizer.spelled, ids)).decode() for ids in found]  # UTF-8, strictly
    for text in texts:
        validator.validate(json.loads(text))
    assert len(set(texts)) > 3


@tokenizers
@pytest.mark.parametrize("pattern", PATTERNS)
def test_random_logits_write_what_the_regex_matches(tokenizer, pattern):
    grammar = Grammar.regex(tokenizer, pattern)
    for seed in range(20):
        ids = write(grammar.start(), tokenizer, seed)
        assert ids is not None and re.fullmatch(pattern, tokenizer.decode(ids))
        assert not {*ids} & {*tokenizer.special.values()}


def test_a_random_model_writes_what_the_schema_allows():
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("qwen3", 512, 160, 1, 32)).eval()  # with rows that stand for no token
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    grammar = Grammar.json_schema(WHOLE, SCHEMAS["call"])
    rows = [(grammar.start(), [WHOLE.bos]) for _ in range(20)]
    going, draws = rows, torch.Generator().manual_seed(0)
    with torch.inference_mode():
        while going:
            logits = model(torch.tensor([ids for _, ids in going]))[:, -1]  # (B, V)
            for (constraint, ids), row in zip(going, logits, strict=True):
                constraint.allow(row)
                ids.append(int(row.softmax(0).multinomial(1, generator=draws)))
                constraint.take(ids[-1])
            going = [row for row in going if row[1][-1] not in WHOLE.stop]
    texts = {WHOLE.decode(ids[1:-1]) for _, ids in rows}
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMAS["call"])
    assert len(texts) > 10


@settings(deadline=None, max_examples=60)
@given(
    st.fixed_dictionaries(
        {
            "s": st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=12)
            | st.sampled_from(SPECIALS)
        },
        optional={"n": st.integers(-(10**9), 10**9), "l": st.lists(st.booleans() | st.none(), max_size=3)},
    )
)
def test_whatever_the_schema_allows_can_be_written_as_it_is_encoded(value):
    in_order = {key: value[key] for key in ("s", "n", "l") if key in value}
    text = json.dumps(in_order, ensure_ascii=False, separators=(",", ":"))
    constraint = ANY.start()
    for token in WHOLE.encode(text):
        assert token in can_follow(constraint, WHOLE) and not constraint.done
        constraint.take(token)
    assert constraint.done and can_follow(constraint, WHOLE) == WHOLE.stop


ANY = Grammar.json_schema(
    WHOLE,
    {
        "type": "object",
        "properties": {
            "s": {"type": "string"},
            "n": {"type": "integer"},
            "l": {"type": "array", "items": {"type": ["boolean", "null"]}},
        },
        "required": ["s"],
        "additionalProperties": False,
    },
)


def test_exactly_the_bytes_that_may_come_next_are_allowed_and_the_end_where_it_may_be():
    language = {"a", "aé", "abé", "🙂", "🙃a"}
    tokenizer = TOKENIZERS["bytes"]
    grammar = Grammar.regex(tokenizer, "ab?é|a|🙂|🙃a")
    for beginning in {text.encode()[:n] for text in language for n in range(len(text.encode()) + 1)}:
        constraint = grammar.start()
        for byte in beginning:
            constraint.take(next(i for i in range(256) if tokenizer.spelled(i) == bytes([byte])))
        following = {text.encode()[len(beginning) :][:1] for text in language if text.encode().startswith(beginning)}
        allowed = can_follow(constraint, tokenizer)
        assert {tokenizer.spelled(i) for i in allowed - tokenizer.stop} == following - {b""}
        assert allowed & tokenizer.stop == (tokenizer.stop if b"" in following else set())
        assert constraint.done == (following == {b""})


def test_text_that_must_come_is_written_as_the_model_has_read_it():
    text = '{"name":"numpy","kind":"array"}'
    constraint = Grammar.json_schema(WHOLE, {"const": json.loads(text)}).start()
    assert write(constraint, WHOLE, 0) == WHOLE.encode(text)


def test_the_keys_come_in_the_order_of_the_schema_and_no_white_space():
    schema = {"type": "object", "properties": {"b": {"const": 1}, "a": {"const": [1, 2]}}, "required": ["a", "b"]}
    ids = write(Grammar.json_schema(WHOLE, schema | {"additionalProperties": False}).start(), WHOLE, 0)
    assert WHOLE.decode(ids) == '{"b":1,"a":[1,2]}'


def test_requests_share_a_grammar_and_nothing_else():
    grammar = Grammar.regex(WHOLE, "ab|cd")
    first, second = grammar.start(), grammar.start()
    before = can_follow(second, WHOLE)
    first.take(WHOLE.encode("c")[0])
    assert can_follow(first, WHOLE) == {*WHOLE.encode("d")} != before == can_follow(second, WHOLE)


def test_a_token_that_does_not_fit_ends_the_request_for_good():
    constraint = Grammar.regex(WHOLE, "ab").start()
    with pytest.raises(JourneyError, match="the regex cannot be followed"):
        constraint.take(WHOLE.encode("x")[0])
    with pytest.raises(JourneyError, match="the regex cannot be followed"):
        constraint.allow(torch.zeros(WHOLE.n_ids))
    for token in (WHOLE.n_ids, -1):  # a head has more rows than there are ids
        with pytest.raises(JourneyError, match="is no id"):
            Grammar.regex(WHOLE, "ab?").start().take(token)


def test_a_grammar_that_grows_too_complex_midway_is_an_error_and_no_free_text():
    constraint = Grammar.regex(WHOLE, r"(\p{L}{1,1000}){1,1000}").start()
    with pytest.raises(JourneyError, match="the regex cannot be followed: too many expressions"):
        write(constraint, WHOLE, 0)
    with pytest.raises(JourneyError, match="too many expressions"):
        _ = constraint.done


def deep(n):
    return '{"type":"array","items":' * n + "{}" + "}" * n


WRONG = {
    '{"type":\n "string",}': "the schema, line 2: not JSON",
    "[1]": "the schema: a JSON schema is an object",
    '"string"': "the schema: a JSON schema is an object",
    "false": "the schema: false allows nothing",
    '{"type":"strin"}': "Invalid type: strin",
    '{"type":"string","pattern":"("}': "unclosed group",
    '{"type":"string","pattern":"(?=a)"}': "look-around",
    '{"properties":3}': "properties must be an object",
    '{"not":{"type":"null"}}': r'Unimplemented keys: \["not"\]',
    '{"type":"array","uniqueItems":true}': r'Unimplemented keys: \["uniqueItems"\]',
    '{"oneOf":[{"type":"integer"},{"type":"number"}]}': "oneOf constraints are not supported$",
    '{"type":"string","minLength":5,"maxLength":2}': "minLength .5. is greater than maxLength .2.",
    '{"type":"object","properties":{"a":false},"required":["a"]}': "required property 'a' is unsatisfiable",
    '{"enum":[]}': "anyOf is empty",
    '{"allOf":[{"type":"string"},{"type":"integer"}]}': "incompatible types",
    '{"$ref":"#"}': "no text fits it",
    '{"$ref":"#/$defs/no"}': "'/\\$defs/no' does not exist",
    '{"$ref":"http://127.0.0.1:9/a.json"}': "does not fetch",
    '{"x-guidance":{"item_separator":";"}}': '"x-guidance" is no keyword',
    '{"const":"\\ud800"}': "the schema holds a lone surrogate",
    '{"const":NaN}': "cannot be followed",
    # bombs
    deep(200): "recursion limit exceeded$",
    deep(10**5): "more than 32,768 characters",
    json.dumps({"enum": [*range(10**5)]}): "more than 32,768 characters",
    json.dumps({"type": "object", "properties": {f"p{i}": {} for i in range(1000)}}): "Current row has 4007 items",
    json.dumps({"allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(40)]}): (
        "schema too large"
    ),
    '{"type":"integer","multipleOf":10000019}': "the schema is too complex: compiling it takes over 2 seconds",
}  # fmt: skip


@pytest.mark.parametrize(("schema", "said"), WRONG.items(), ids=[schema[:50] for schema in WRONG])
def test_a_schema_that_cannot_be_followed_is_said_at_once(schema, said):
    started = time.monotonic()
    with pytest.raises(JourneyError, match=said) as error:
        Grammar.json_schema(WHOLE, schema)
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)
    assert time.monotonic() - started < 30  # the slowest takes two seconds of a core, and may wait for one


@pytest.mark.parametrize(
    ("pattern", "said"),
    {
        "(": "the regex cannot be followed: unclosed group",
        "(?=a)b": "look-around",
        r"(a)\1": "backreferences are not supported",
        r"\bno\b": "lookarounds not supported yet$",
        "[a&&b]": "no text fits it",
        "a{1000000}": "too many expressions",
        "(" * 1000 + ")" * 1000: "nested parentheses",
        "a" * (LONGEST + 1): "more than 32,768 characters",
        "a?" * (LONGEST // 2): "the regex is too complex",
        "(?-u:\\xff)": "invalid UTF-8",
        "\ud800": "lone surrogate",
    }.items(),
    ids=lambda text: text[:20].encode("ascii", "replace").decode(),
)
def test_a_regex_that_cannot_be_followed_is_said_at_once(pattern, said):
    with pytest.raises(JourneyError, match=said) as error:
        Grammar.regex(WHOLE, pattern)
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9, "maxItems": 10**9, "items": {"type": "array", "minItems": 10**9}},
        {"type": "string", "pattern": "^(((a{1,100}){1,100}){1,100}){1,100}(a|aa)+$"},
        {"type": "string", "pattern": "^(.*a.{300}|.*b.{200})$"},
    ],
    ids=json.dumps,
)
def test_what_is_large_only_in_its_text_goes_on_until_it_is_cut(schema):
    started = time.process_time()
    assert write(Grammar.json_schema(WHOLE, schema).start(), WHOLE, 0, most=100) is None or "pattern" in schema
    assert time.process_time() - started < 2


def test_a_grammar_is_not_compiled_where_the_process_that_tries_it_is_ended(monkeypatch):
    assert trial.compiles(" " + GRAMMAR)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert not trial.compiles("  " + GRAMMAR)


GRAMMAR = '{"grammars": [{"json_schema": {"type": "integer"}}]}'


def test_true_and_an_empty_schema_allow_any_json():
    for schema in (True, {}, "true", "\ufeff{}"):
        constraint = Grammar.json_schema(WHOLE, schema).start()
        assert {*WHOLE.encode("{")} | {*WHOLE.encode("7")} <= can_follow(constraint, WHOLE)


def test_a_file_is_named_with_its_line(tmp_path):
    file = tmp_path / "city.json"
    with pytest.raises(JourneyError, match=r"city.json is missing"):
        Grammar.json_schema_file(WHOLE, file)
    file.write_text(json.dumps(CITY, indent=1))
    assert can_follow(Grammar.json_schema_file(WHOLE, file).start(), WHOLE)
    file.write_text('{"type":\n"object"')
    with pytest.raises(JourneyError, match=r"city.json, line 2: not JSON"):
        Grammar.json_schema_file(WHOLE, file)
    file.write_text('{"type": "objekt"}')
    with pytest.raises(JourneyError, match=r"city.json cannot be followed: Invalid type: objekt"):
        Grammar.json_schema_file(WHOLE, file)
    file.write_text(" " * (4 * LONGEST + 1))
    with pytest.raises(JourneyError, match=r"city.json has more than 32,768 characters"):
        Grammar.json_schema_file(WHOLE, file)
    with pytest.raises(JourneyError):
        Grammar.json_schema_file(WHOLE, tmp_path)


def test_without_llguidance_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    for make in (Grammar.json_schema, Grammar.regex):
        with pytest.raises(JourneyError, match=r'needs llguidance: pip install "journey-gpt\[grammar\]"$'):
            make(WHOLE, "{}")
