"""Import: a checkpoint from elsewhere becomes a node, its weights checked, its tokenizer made ready for chat."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey.errors import JourneyError
from journey.fields import Count, Positive
from journey.files import check_file, digest, read_json, sha256_file, write_json
from journey.metrics import metric
from journey.model.adapter import is_adapter
from journey.model.opening import read_config
from journey.model.sizes import RANDOM
from journey.report.blocks import Text
from journey.report.format import MISSING, power
from journey.stages.cost import Cost, writing
from journey.stages.run import Run, stage
from journey.stages.story import Story, Told, facts

if TYPE_CHECKING:
    from torch import Tensor

    from journey.model.foreign.source import Source
    from journey.tokenizer.formats import Tokenizer

TOLERANCE = 1e-4  # of a logit, for logits up to 10; fp32 rounds in proportion
_PADDING = 1024  # rows at most that a vocabulary is padded with; more is another tokenizer's
_NOISE = 0.01  # of the embeddings' own spread: new rows differ, and all of them predict as the mean does
_DECIDING = ("config.json", "tokenizer.json", "*.safetensors", "*.bin", "*.index.json")  # files of a folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
    """Settings of the import stage."""

    path: str = ""
    """nanoGPT's ckpt.pt, build-nanogpt's model_….pt, llm.c's .bin, a Hugging Face folder of GPT-2, Llama, Qwen2 or
    Qwen3, a bare state dict (.pt, .pth, .bin, .safetensors), or random-gpt2 or random-llama-3.1 (a tiny one): fresh
    weights, to try a recipe"""
    family: str = ""
    """gpt2, llama, qwen2 or qwen3, for a bare state dict, which does not say."""
    n_head: Count | None = None
    """Attention heads, for a bare state dict of another width than GPT-2's."""
    n_ctx: Count | None = None
    """Keep no more positions than this; for a bare state dict of llama, qwen2 or qwen3, how many it has."""
    rope_theta: Positive | None = None
    """Base of the rotary positions, for a bare state dict of llama, qwen2 or qwen3."""
    tokenizer: str = "auto"
    """Its tokenizer's folder or file (nanoGPT's meta.pkl, too); auto: beside the checkpoint or, for a gpt2, GPT-2's
    own, wherever it is."""

    def inputs(self) -> dict[str, str]:
        """What the two paths stand for, so that a place can change without changing the node's id."""
        return {"path": _fingerprint(self.path), "tokenizer": _found(self)[2]}

    def cost(self, before: Sequence[Any]) -> Cost:
        """Known of a folder alone before the weights are read."""
        return writing([self])

    @property
    def n_params(self) -> int | None:
        """How many parameters it has, as far as a folder's config.json says it."""
        from journey.model.huggingface import load_config

        place = Path(self.path)
        return load_config(place).n_params if self.path and (place / "config.json").is_file() else None


@stage(
    makes="model",
    why=(
        "The life did not begin here: the weights were trained elsewhere and read from a file. Nothing in that file "
        "is run. The tensors are renamed and laid out as Hugging Face's format has them, the chat format's marks join "
        "the vocabulary, and where the source can be rebuilt its predictions are compared with ours."
    ),
    example="journey import ckpt.pt --out mine",
    start="an imported checkpoint",
    version=2,
)
def import_(parent: None, config: Import, run: Run) -> dict[str, Any]:
    """Write a checkpoint from elsewhere as a Hugging Face folder, ready for chat, and check what it computes."""
    from safetensors.torch import save_file

    from journey.model import families, foreign, huggingface
    from journey.tokenizer.characters import Characters

    if config.path in RANDOM:
        source = foreign.random(config.path, run.seed, config.n_ctx)
    else:
        source = foreign.read(Path(config.path), config.family, config.n_head, config.n_ctx, config.rope_theta)
    run.say(f"{config.path}: {source.format}, {source.config.n_params:,} parameters")
    old, where, _ = _found(config)
    before, kept = source.config.vocab_size, _kept(old, where, source, config.path)
    characters = isinstance(old, Characters)
    changed = [*source.notes, f"tokenizer of {kept if characters else old.vocab_size:,} tokens ({where})"]
    if before > kept:
        changed.append(f"{before - kept} rows of padding dropped from the vocabulary")
    if characters:
        changed.append(f"{old.n_ids - kept} ids added for other texts: bytes and parts of characters")
    tokenizer = old.with_chat_tokens()
    rows = tokenizer.n_ids
    added = [token for token, i in tokenizer.special.items() if i >= kept]
    like = _unlikeliest(source, kept) if characters else None
    if added:
        begin = "the mean of the others" if like is None else "that of the unlikeliest character"
        changed.append(f"tokens added: {' '.join(added)}; their embeddings are {begin}")
    weights = _float32(source.tensors, config.path)
    starts = source.bos if tokenizer.bos >= kept else None  # a tokenizer with a document mark of another name
    for name in (f"{families.get(source.config.family).embedding}.weight", "lm_head.weight"):
        if name in weights:
            weights[name] = resized(weights[name], kept, rows, run.seed, like)
            if starts is not None and starts < kept:
                weights[name][tokenizer.bos] = weights[name][starts]
    if starts is not None and starts < kept:
        changed.append(f"<|endoftext|> begins as the model's own mark of a beginning (id {starts})")
    for line in changed:
        run.say(line)

    shape = dataclasses.replace(source.config, vocab_size=rows)
    save_file(weights, run.folder / "model.safetensors", metadata={"format": "pt"})
    del weights
    source.tensors.clear()  # in fp32 by now: the check below needs that memory
    config_json = huggingface.config_json(shape, tokenizer.bos, tokenizer.eos, tokenizer.pad)
    write_json(run.folder / "config.json", config_json)
    tokenizer.save(run.folder)
    write_json(run.folder / "generation_config.json", tokenizer.generation)

    checked = _check(source, run.folder, kept, run)
    facts = {
        "format": source.format,
        "path": config.path,
        "sha256": None if config.path in RANDOM else _fingerprint(config.path),
        "trained": source.facts,
        "changed": changed,
        "check": checked,
    }
    write_json(run.folder / "import.json", facts)
    differences = {f"{name}_difference": checked[name] for name in ("logits", "exact_gelu") if name in checked}
    return {
        "tokens": None,
        "flops": None,
        "origin": facts,
        "metrics": {
            "parameters": metric(shape.n_params),
            "vocabulary_before": metric(before, "rows"),
            "vocabulary": metric(rows, "rows"),
            **{name: metric(value, "", checked["convention"]) for name, value in differences.items()},
        },
    }


def _kept(tokenizer: "Tokenizer", where: str, source: "Source", path: str) -> int:
    """How many rows of the embedding are the tokenizer's: all ids that the checkpoint can have been trained with."""
    from journey.tokenizer.characters import Characters

    before, ask = source.config.vocab_size, "give the tokenizer that it was trained with, as --tokenizer"
    if isinstance(tokenizer, Characters):
        if tokenizer.n_characters != before:
            said = f"{path} has {before:,} embeddings, {where} {tokenizer.n_characters:,} characters"
            raise JourneyError(f"{said}: {ask}")
        return before
    if tokenizer.n_ids > before:
        added = [token for token, i in tokenizer.backend.get_vocab().items() if i >= before]
        if all(token in tokenizer.special for token in added):  # and never trained: they get rows as ours do
            return before
        config = source.facts.get("config")
        dataset = config.get("dataset") if isinstance(config, dict) else None
        characters = f" (one of characters is nanoGPT's data/{dataset}/meta.pkl)" if dataset else ""
        raise JourneyError(
            f"{path} has {before:,} embeddings, the tokenizer ({where}) {tokenizer.n_ids:,} tokens: {ask}{characters}"
        )
    if before - tokenizer.n_ids > _PADDING:
        raise JourneyError(
            f"{path} has {before:,} embeddings, the tokenizer ({where}) only {tokenizer.n_ids:,} tokens, which is not "
            f"padding: {ask}"
        )
    return tokenizer.n_ids


def _check(source: "Source", folder: Path, kept: int, run: Run) -> dict[str, Any]:
    """The largest difference between the written folder's logits and an independent forward pass of the source.

    It allows 1e-4, more where logits are larger than 10: GPT-2's are near -100, and fp32 rounds in proportion.
    """
    import torch

    from journey.model import huggingface

    if source.logits is None:
        run.say(f"logits not checked: {source.unchecked}")
        return {"unchecked": source.unchecked}
    ids = probe(source.config.n_ctx, kept)
    with torch.inference_mode():
        ours = huggingface.load(folder).eval()(ids)[..., :kept]  # the model is gone again before the source is built
        theirs = source.logits(ids)[..., :kept]
        difference, size = (ours - theirs).abs().max().item(), theirs.abs().max().item()
        allowed = tolerance(size)
        if not difference <= allowed:
            raise JourneyError(
                f"what was written computes other logits than the checkpoint (by {difference:.2g}, allowed "
                f"{allowed:.2g}): please report this, with the kind of checkpoint ({source.format})"
            )
        checked: dict[str, Any] = {
            "logits": difference,
            "largest_logit": size,
            "convention": f"largest difference of a logit, {ids.size(1)} positions x {kept} tokens",
        }
        run.say(f"logits checked: they differ by {difference:.1e} at most")
        if source.exact_gelu is not None:
            checked["exact_gelu"] = (ours - source.exact_gelu(ids)[..., :kept]).abs().max().item()
            run.say(
                f"newer nanoGPT computes GELU exactly, GPT-2 and every tool by tanh: "
                f"logits differ by {checked['exact_gelu']:.1e} at most"
            )
    return checked


def _unlikeliest(source: "Source", kept: int) -> int | None:
    """The id that the model thinks least of, after ids from all over its vocabulary; None where it cannot be asked."""
    import torch

    if source.logits is None:
        return None
    with torch.inference_mode():
        return int(source.logits(probe(source.config.n_ctx, kept))[0, :, :kept].log_softmax(-1).mean(0).argmin())


def tolerance(largest: float) -> float:
    """How far apart two ways to compute the same logits may be, where the largest of them is this."""
    return TOLERANCE * max(1.0, largest / 10)


def probe(n_ctx: int, n_ids: int) -> "Tensor":
    """Ids from all over the vocabulary, (1, T), at most as many as the context has."""
    import torch

    return (torch.arange(1, min(64, n_ctx) + 1) * 7919 % n_ids).unsqueeze(0)


def resized(matrix: "Tensor", kept: int, rows: int, seed: int, like: int | None = None) -> "Tensor":
    """The first `kept` rows of an embedding (V, C), then new ones: the mean of those, and a little noise.

    A row near zero would have the logit 0 where all others are near -100, and take the whole distribution (Hewitt 2021,
    "Initializing New Word Embeddings for Pretrained Language Models"). The mean predicts as an average token does. But
    many new rows beside few old ones would take a good part of every prediction together: then they begin as the row
    `like`, of a token that the model hardly ever writes.
    """
    import torch

    old = matrix[:kept]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows - kept, old.size(1), generator=generator) * old.std(0) * _NOISE
    return torch.cat([old, (old.mean(0) if like is None else old[like]) + noise])


def _float32(tensors: dict[str, "Tensor"], where: str) -> dict[str, "Tensor"]:
    """Contiguous, in float32; a weight that is not a number is named."""
    import torch

    for name in list(tensors):
        tensor = tensors[name].to(torch.float32).contiguous()
        if not tensor.isfinite().all():
            raise JourneyError(f"{where}: {name} holds NaN or infinity: take a checkpoint from before training broke")
        tensors[name] = tensor
    end = 0
    for name in sorted(tensors, key=lambda name: tensors[name].data_ptr()):
        start = tensors[name].data_ptr()
        if start < end:  # blocks can share their weights, but safetensors stores no memory twice
            tensors[name] = tensors[name].clone()
        end = max(end, start + tensors[name].nbytes)
    return dict(tensors)


def _found(config: Import) -> tuple["Tokenizer", str, str]:
    """The tokenizer, where it was found, and its fingerprint."""
    return _find(config.path, config.tokenizer, config.family)


@functools.cache  # a plan asks for the id more than once
def _find(path: str, tokenizer: str, family: str) -> tuple["Tokenizer", str, str]:
    from journey.data import vocabularies

    place = None if path in RANDOM else Path(path)
    if place and (place / "config.json").exists():
        said = read_config(place).get("model_type")
        family = said if isinstance(said, str) else ""
    found, where = vocabularies.find(place, tokenizer, family)
    return found, where, vocabularies.fingerprint(found)


def _fingerprint(path: str) -> str:
    """SHA-256 of a checkpoint's file, or over those files of a folder that decide what it computes."""
    if path in RANDOM:
        return path
    if not path or not Path(path).exists():
        problem = f"{path} does not exist" if path else "no checkpoint given"
        raise JourneyError(f"{problem}: give the path of a checkpoint (or {' or '.join(RANDOM)}, to try the recipe)")
    if not Path(path).is_dir():
        check_file(Path(path))
        return _sha256(Path(path), Path(path).stat().st_mtime_ns)
    if is_adapter(Path(path)):
        from journey.model.foreign import elsewhere

        raise JourneyError(f"{path} {elsewhere.A_PEFT_ADAPTER}")
    if (Path(path) / "config.json").exists():
        read_config(Path(path))  # if that is damaged, no one need wait for the weights
    files = sorted({file for name in _DECIDING for file in Path(path).glob(name) if file.is_file()})
    return digest({file.name: _sha256(file, file.stat().st_mtime_ns) for file in files})


@functools.cache
def _sha256(file: Path, modified: int) -> str:
    return sha256_file(file)


@import_.tells
def tell(told: Told) -> Story:
    """What was read, what was changed of it, and whether its predictions are the source's."""
    found = read_json(told.node.path / "import.json")
    lines = [f"Read from {found['format']}.", *(f"{line[:1].upper()}{line[1:]}." for line in found["changed"])]
    if reason := found["check"].get("unchecked"):
        lines.append(f"Logits not checked: {reason}.")
    metrics = told.node.lineage.get("metrics", {})
    checked = metrics.get("logits_difference", {}).get("value")
    parameters = metrics.get("parameters", {}).get("value")
    return Story(
        [facts(told), *map(Text, lines)],
        big=MISSING if parameters is None else f"{parameters / 1e6:,.3g}\u00a0M",
        what="parameters, trained elsewhere",
        said="its predictions could not be checked against the source"
        if checked is None
        else f"logits within {power(checked)} of the source's",
    )
