"""What a GGUF file costs and gives: its model run by llama.cpp against the weights it was made of, run by us."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from journey import chat
from journey.data.conversations import question_messages
from journey.data.questions import Question
from journey.data.sources import Document
from journey.evaluate import perplexity
from journey.files import read_json
from journey.infer import engine, gguf, llamacpp
from journey.infer.llamacpp import LlamaCpp
from journey.model import adapter, families
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.pair import open_pair
from journey.tokenizer.formats import SPECIALS, Tokenizer

DOCUMENTS = 40  # of each corpus; what a file costs is a difference on the same documents, so few are enough
_COMPARED = 2  # documents whose logits are compared
_TOKENS, _REPEATS = 32, 5  # decoded at a time, and how often at most
_TIMING = 20.0  # seconds after which no further round of timing begins: of a large model one round is enough


def measure(
    folder: Path,
    model_folder: Path,
    documents: Mapping[str, Sequence[Document]] | Sequence[Document],
    questions: Sequence[Question] = (),
    limit: int = DOCUMENTS,
) -> dict[str, Any]:
    """The files of a quantize node against the model they were made of, by the rules of `convention`, on at most
    `limit` documents of each corpus.

    {"reference": {"items", "bytes", "tokens_per_second"}, "types": {type: {"file", "bytes", "items",
    "logits_max_difference", "tokens_per_second"}}, "f32_logits_max_difference", "f32_default_logits_max_difference",
    "prompts": {"equal", "n"}, "texts": {"equal", "n"}, "runtime", "convention"}. A document's id begins with its
    corpus, where `documents` names several.
    """
    model, tokenizer = open_pair(model_folder)
    n_ctx = model.config.n_ctx
    chosen = _choose(documents, limit)
    compared = [ids[:n_ctx] for ids, _ in perplexity.encode(tokenizer, chosen[:_COMPARED], perplexity.MAX_BYTES)]
    facts = types_of(folder)
    types: dict[str, dict[str, Any]] = {}
    ours = {"": lambda: engine.stream(model, compared[0][:1], max_new_tokens=n_ctx, stop=set())}
    with ExitStack() as stack:
        llamas: dict[str, LlamaCpp] = {}
        for type, fact in facts.items():
            llama = llamas[type] = stack.enter_context(LlamaCpp(folder / fact["file"], n_ctx))
            types[type] = {
                "file": fact["file"],
                "bytes": fact["bytes"],
                "items": score(llama, tokenizer, chosen, n_ctx),
                "logits_max_difference": logits_difference(model, llama, compared),
            }
        first = next(iter(llamas.values()))
        prompts, texts = same_prompts(first, tokenizer, questions), same_texts(first, tokenizer, chosen)
        speeds = tokens_per_second(
            ours | {type: _stream(llama, compared[0][:1]) for type, llama in llamas.items()}, n_ctx
        )
    for type in types:
        types[type]["tokens_per_second"] = speeds[type]
    exact, default = f32_differences(model, tokenizer, compared)
    return {
        "reference": {
            "items": perplexity.score(model, tokenizer, chosen),
            "bytes": adapter.n_bytes(adapter.chain(model_folder)[-1]),
            "tokens_per_second": speeds[""],
        },
        "types": types,
        "f32_logits_max_difference": exact,
        "f32_default_logits_max_difference": default,
        "prompts": prompts,
        "texts": texts,
        "runtime": llamacpp.version(),
        "convention": convention(model.config),
    }


def types_of(folder: Path) -> dict[str, Any]:
    """The files of a quantize node that are whole models, by type: {"file", "bytes", "bits_per_weight"}."""
    return dict(read_json(folder / gguf.FACTS)["types"])


def convention(config: GPTConfig) -> str:
    """How `measure` counts, in words that belong beside the numbers."""
    remark = families.get(config.family).gguf_remark
    differs = f"; {remark}" if remark else ""
    return (
        f"{perplexity.convention(config.n_ctx)}; ours in fp32, llama.cpp's by its defaults (keys and values in f16, "
        "flash attention); logits: the largest difference over the largest logit, f32 also with keys and values in f32 "
        f"and without that kernel{differs}; tokens/s: median of at most {_REPEATS} times {_decoded(config.n_ctx)} "
        f"tokens after one, greedy, one sequence, {torch.get_num_threads()} threads, all in turn; prompts and texts: "
        "those with the same ids in both, of the ones that spell no special token"
    )


def score(llama: LlamaCpp, tokenizer: Tokenizer, documents: Sequence[Document], n_ctx: int) -> list[dict[str, Any]]:
    """`perplexity.score` by llama.cpp: the same tokens in the same windows."""
    items = []
    encoded = perplexity.encode(tokenizer, documents, perplexity.MAX_BYTES)
    for document, (ids, n_bytes) in zip(documents, encoded, strict=True):
        nats = 0.0
        for row, known in perplexity.windows(ids, n_ctx):
            logits = torch.from_numpy(llama.logits(row[:-1], first=known - 1))  # (predicted, V)
            nats += F.cross_entropy(logits, torch.tensor(row[known:]), reduction="none").double().sum().item()
        items.append({"id": document.id, "nats": nats, "bytes": n_bytes, "tokens": len(ids) - 1})
    return items


@torch.inference_mode()
def logits_difference(model: GPT, llama: LlamaCpp, rows: Sequence[Sequence[int]]) -> float:
    """The largest difference between our logits and llama.cpp's, over our largest logit (both round in proportion)."""
    difference = largest = 0.0
    for ids in rows:
        ours = model(torch.tensor([ids], device=model.embed.weight.device))[0].cpu().numpy()  # (T, V)
        difference = max(difference, float(np.abs(ours - llama.logits(ids)).max()))
        largest = max(largest, float(np.abs(ours).max()))
    return difference / largest


def f32_differences(model: GPT, tokenizer: Tokenizer, rows: Sequence[Sequence[int]]) -> tuple[float, float]:
    """`logits_difference` of the model written as f32, all of it computed in f32 and by llama.cpp's defaults."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "f32.gguf"
        gguf.write(model, tokenizer, path, "f32")
        found = []
        for exact in (True, False):
            with LlamaCpp(path, model.config.n_ctx, exact=exact) as llama:
                found.append(logits_difference(model, llama, rows))
    return found[0], found[1]


def same_prompts(llama: LlamaCpp, tokenizer: Tokenizer, questions: Sequence[Question]) -> dict[str, int]:
    """How many chat prompts, each question without and with its passage, have the same ids by the template and the
    tokenizer inside the file as by ours."""
    from transformers.utils.chat_template_utils import render_jinja_template

    asked = [question_messages(q, with_passage)[:-1] for q in questions for with_passage in (False, True)]
    asked = [messages for messages in asked if _plain(messages[0]["content"])]
    template = llama.metadata.get("tokenizer.chat_template")
    if not asked or not template:
        return {"equal": 0, "n": 0}
    rendered = render_jinja_template(conversations=asked, chat_template=template, add_generation_prompt=True)[0]
    equal = [
        llama.tokenize(text, parse_special=True) == chat.encode_prompt(messages, tokenizer)
        for text, messages in zip(rendered, asked, strict=True)
    ]
    return {"equal": sum(equal), "n": len(equal)}


def same_texts(llama: LlamaCpp, tokenizer: Tokenizer, documents: Sequence[Document]) -> dict[str, int]:
    """How many documents have the same ids by the tokenizer inside the file as by ours."""
    texts = [document.text for document in documents if _plain(document.text)]
    equal = [llama.tokenize(text) == ids for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True)]
    return {"equal": sum(equal), "n": len(equal)}


def tokens_per_second(streams: Mapping[str, Callable[[], Iterator[int]]], n_ctx: int) -> dict[str, float]:
    """How fast each stream goes on after its first token. They take turns, so that a busy moment hits all alike."""
    n = _decoded(n_ctx)
    seconds: dict[str, list[float]] = {name: [] for name in streams}
    first = time.perf_counter()
    for round in range(_REPEATS + 1):
        if round > 1 and time.perf_counter() - first > _TIMING:
            break
        for name, begin in streams.items():
            stream = begin()
            next(stream)
            start = time.perf_counter()
            made = sum(1 for _ in islice(stream, n))
            seconds[name].append((time.perf_counter() - start) / made)
    return {name: 1 / statistics.median(times[1:]) for name, times in seconds.items()}  # the first warms up


def _decoded(n_ctx: int) -> int:
    """How many tokens are timed: the context must also hold one to begin with and the first answer to it."""
    return min(_TOKENS, n_ctx - 2)


def _stream(llama: LlamaCpp, prompt: list[int]) -> Callable[[], Iterator[int]]:
    return lambda: llama.greedy(prompt)


def _plain(text: str) -> bool:
    """Whether a text spells no special token: where it does, llama.cpp reads the token and we the text, by design."""
    return not any(special in text for special in SPECIALS)


def _choose(documents: Mapping[str, Sequence[Document]] | Sequence[Document], limit: int) -> list[Document]:
    """At most `limit` of each corpus, from all over it."""
    groups = documents if isinstance(documents, Mapping) else {"": documents}
    chosen = []
    for corpus, held_out in groups.items():
        some = held_out[:: -(-len(held_out) // limit) or 1]
        chosen += [replace(document, id=f"{corpus}/{document.id}" if corpus else document.id) for document in some]
    return chosen
