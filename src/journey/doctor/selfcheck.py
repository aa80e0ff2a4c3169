"""Whether this machine computes what it should: the oracles of the tests, small enough for a few seconds."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from journey.doctor.finding import REPORT, Finding
from journey.metrics import metric

if TYPE_CHECKING:
    from torch import Tensor

    from journey.model.gpt import GPT

TOLERANCE = 1e-4  # fp32; a wrong formula is off by a thousand times that
_VOCABULARY, _CONTEXT = 512, 64
_TEXT = "The cat's mat isn't flat; the cats sat.\n\n    def naïve(x):  # 中文 🙂 123\n        return x ** 2\n" * 3


def small_model(family: str) -> "GPT":
    """Random weights so large that attention and logits are far from even, and no norm or bias is idle."""
    import torch

    from journey.model import families
    from journey.model.config import GPTConfig
    from journey.model.gpt import GPT

    torch.manual_seed(0)
    n_kv_head = 2 if families.get(family).shares_keys else 4
    model = GPT(GPTConfig.make(family, _VOCABULARY, _CONTEXT, n_layer=2, n_embd=64, n_head=4, n_kv_head=n_kv_head))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def against_transformers(family: str) -> Finding:
    """Our logits, and the gradients of our loss, against transformers', opened from a folder that we saved."""
    import torch
    import torch.nn.functional as F
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from journey.model import families, huggingface

    model = small_model(family)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        huggingface.save(model, Path(folder))
        reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(_VOCABULARY, (2, _CONTEXT), generator=torch.Generator().manual_seed(1))
    logits = reference(ids).logits  # (B, T, V)
    off_logits = _largest(model(ids) - logits)

    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    model(ids[:, :-1], ids[:, 1:]).backward()
    off_gradients = 0.0
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, ours in families.get(family).to_huggingface(model.config, gradients).items():
        off_gradients = max(off_gradients, _largest(ours - reference.get_parameter(name).grad))  # type: ignore[operator]

    good = off_logits <= TOLERANCE and off_gradients <= TOLERANCE
    convention = f"largest absolute difference to transformers in fp32, random weights; up to {TOLERANCE} is rounding"
    return Finding(
        good,
        f"transformers' logits to {off_logits:.0e} and gradients to {off_gradients:.0e}",
        "" if good else f"that is more than rounding ({TOLERANCE}): {REPORT}",
        {
            f"{family}_logits": metric(off_logits, convention=convention, n=logits.numel()),
            f"{family}_gradients": metric(off_gradients, convention=convention, n=model.config.n_params),
        },
    )


def _largest(difference: "Tensor") -> float:
    """The largest magnitude; NaN is the largest that there is, because neither a comparison nor JSON knows NaN."""
    import torch

    return difference.abs().nan_to_num(nan=torch.finfo(torch.float32).max).max().item()


def against_tokenizers() -> Finding:
    """Our BPE's merges and ids against those of the tokenizers library, on a small text."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    from journey.tokenizer import bpe
    from journey.tokenizer.codec import Codec

    reference = tokenizers.Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    reference.train_from_iterator([_TEXT], trainer)
    theirs = [tuple(merge) for merge in json.loads(reference.to_str())["model"]["merges"]]

    merges = bpe.train(bpe.count_words([_TEXT]), 300, 0)
    codec = Codec(merges)
    ids = codec.encode(_TEXT)
    equal = {
        "merges": merges == theirs,
        "ids": ids == reference.encode(_TEXT).ids,
        "the decoded text": codec.decode(ids) == _TEXT,
    }
    if wrong := [name for name, good in equal.items() if not good]:
        return Finding(False, f"{' and '.join(wrong)} not as the tokenizers library has it", REPORT)
    found = f"{len(merges)} merges and {len(ids)} ids as tokenizers has them, and back to the text"
    return Finding(True, found, metrics={"bpe_equal": metric(len(ids), "tokens")})


def cached_against_full() -> Finding:
    """Greedy text by the key/value cache, two prompts at once, against the whole model run anew for every token."""
    import torch

    from journey.infer.engine import generate

    model = small_model("qwen3")
    prompts, new = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11]], 24
    cached = [completion.ids for completion in generate(model, prompts, max_new_tokens=new, stop=set())]
    full = [list(prompt) for prompt in prompts]
    with torch.inference_mode():
        for row in full:
            for _ in range(new):
                row.append(int(model(torch.tensor([row]))[0, -1].argmax()))
    if [prompt + ids for prompt, ids in zip(prompts, cached, strict=True)] != full:
        return Finding(False, "greedy text with the cache differs from that of the full forward pass", REPORT)
    found = f"{new * len(prompts)} tokens with the cache, the same as by the full forward pass"
    return Finding(True, found, metrics={"generation_equal": metric(new * len(prompts), "tokens")})


def round_trip() -> Finding:
    """A checkpoint written and read again: the same shape, and every weight the same to the bit."""
    import torch

    from journey.model import huggingface

    model = small_model("gpt2")
    with tempfile.TemporaryDirectory() as folder:
        huggingface.save(model, Path(folder))
        again = huggingface.load(Path(folder))
    before, after = huggingface.tensors(model), huggingface.tensors(again)
    changed = [] if model.config == again.config else ["config"]
    changed += [name for name in before if not torch.equal(before[name], after[name])]
    if changed:
        return Finding(False, f"a checkpoint saved and read again has changed: {', '.join(changed)}", REPORT)
    found = f"{len(before)} tensors saved and read again, the same to the bit"
    return Finding(True, found, metrics={"checkpoint_equal": metric(len(before), "tensors")})
