"""The proof that llama.cpp makes of a text the ids that our tokenizer makes: by texts chosen to part the two."""

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import models

from journey.errors import JourneyError
from journey.infer.llamacpp import ids_of
from journey.tokenizer.formats import Tokenizer

_WHOLE = "llama-bpe"  # with this name a piece that is a token is looked up, without asking the merges
_CHARACTERS = [chr(i) for i in range(0x21, 0x30000, 89) if not 0xD800 <= i < 0xE000]  # from all over Unicode
ADVERSARIAL = (
    "Hello world",
    " Hello  WORLD   Ünïcode \n \t\r\n\r\n  \n",
    "\n\n1. First\n\n2. Second",
    "x =    5;\ty = 1234567 + 0.5e-10 // 3",
    "    a =   17\n        b = 1234\n\n\n\treturn",
    "he said: (why?) !!... --> 'quoted' \"twice\" #!/&*",
    "I'M don't WE'LL they've y'all 'tis he'd DON'T '\u017f \u2019s",
    "cafe\u0301 n\u0303o \u1e0b\u0323 \u212b \u2126 \uac00 \u1100\u1161 \u0958",  # decomposed, and what NFC changes
    "\ufb01\u00b2\u00bd \u2160\u2460 \uff11\uff22 \u0663\u0664\u0665 \u09e7\u09e8 1\u0660",  # what NFKC changes
    "\u00a0\u2003\u3000a\u200b\u200db\u2028c\u0085d\x1ce\x00f\ufeffg",
    "中文字符，日本語の文章。한국어 문장 ภาษาไทย हिन्दी עברית العربية",
    "👩‍👩‍👧 👍🏽 🇩🇪 \u2764\ufe0f \U0001f600\U0001f600",
    "<|endoftext|> <s></s> [INST] <unk> [PAD0]",
    "".join(f" a{char}1{char}{char} {char}\n" for char in _CHARACTERS),
)


def prove(path: Path, tokenizer: Tokenizer, pre: str, normalized: bool) -> None:
    """JourneyError unless llama.cpp, with the tokenizer in this file, makes our ids; `pre` is its name for our cuts.
    Where `normalized`, of texts that the tokenizer's normalizer would not change."""
    texts = [*ADVERSARIAL, *_of(tokenizer, pre)]
    if normalized:
        texts = [tokenizer.backend.normalizer.normalize_str(text) for text in texts]
    for ours, theirs in zip(tokenizer.encode_batch(texts), ids_of(path, texts), strict=True):
        if ours != theirs:
            at = next(n for n, (a, b) in enumerate(zip([*ours, None], [*theirs, None], strict=False)) if a != b)
            place = tokenizer.decode(ours[max(0, at - 2) : at + 3])
            raise JourneyError(f"llama.cpp reads other ids than this tokenizer (near {place!r:.60}): it cannot run it")


def _of(tokenizer: Tokenizer, pre: str) -> Iterator[str]:
    """Texts for what is a tokenizer's own: its added tokens, and tokens that its merges do not reach."""
    for token in tokenizer.backend.get_added_tokens_decoder().values():
        yield from (f"a{token.content}b", f"a {token.content} b", token.content * 2)
    state = json.loads(tokenizer.backend.to_str())
    model, added = state["model"], {token["content"] for token in state["added_tokens"]}
    if model["ignore_merges"] != (pre == _WHOLE):
        merged = models.BPE(model["vocab"], [(left, right) for left, right in model["merges"]])
        unreached = [
            id for token, id in model["vocab"].items() if token not in added and len(merged.tokenize(token)) > 1
        ]
        yield from (tokenizer.decode([id]) for id in unreached)
