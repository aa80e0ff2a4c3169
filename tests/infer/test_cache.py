"""The cache against the full forward pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.infer.cache import KVCache
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

FAMILIES = {"gpt2": None, "llama": 1, "qwen2": 2, "qwen3": 2}


def build(family: str) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, 97, 32, 2, 32, 4, FAMILIES[family]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + name.endswith("norm.weight"))
    return model


MODELS = {family: build(family) for family in FAMILIES}


@torch.inference_mode()
@settings(deadline=None, max_examples=30)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    pieces=st.lists(st.integers(1, 5), max_size=4),
)
def test_rows_of_any_length_read_in_pieces_equal_the_full_pass(family, lengths, pieces):
    """A padded prefill, then pieces of several tokens: every logit is that of the row alone in one pass."""
    model = MODELS[family]
    ids = torch.randint(97, (len(lengths), 32), generator=torch.Generator().manual_seed(len(lengths)))
    full = model(ids)
    cache = KVCache(model.config, len(lengths), 32)
    ends = torch.tensor(lengths)
    logits = model(ids[:, : max(lengths)], cache=cache)  # rows shorter than the longest read padding, later overwritten
    cache.truncate(ends)
    for row, length in enumerate(lengths):
        assert (logits[row, :length] - full[row, :length]).abs().max() < 1e-4
    for piece in pieces:
        at = ends[:, None] + torch.arange(piece)  # (B, piece)
        logits = model(ids.gather(1, at), cache=cache)
        assert (logits - full[torch.arange(len(lengths))[:, None], at]).abs().max() < 1e-4
        ends = ends + piece
        assert torch.equal(cache.lengths, ends)


@torch.inference_mode()
def test_kept_rows_go_on_as_before():
    model = MODELS["qwen3"]
    ids = torch.randint(97, (3, 8))
    cache = KVCache(model.config, 3, 8)
    model(ids[:, :5], cache=cache)
    cache.keep([2, 0])
    assert (model(ids[[2, 0], 5:], cache=cache) - model(ids)[[2, 0], 5:]).abs().max() < 1e-4


def test_what_does_not_fit_is_refused():
    model = MODELS["gpt2"]
    with pytest.raises(JourneyError, match="33 tokens do not fit in the model's context of 32"):
        KVCache(model.config, 1, 33)
    cache = KVCache(model.config, 1, 4)
    with pytest.raises(JourneyError, match="5 tokens do not fit in a cache of 4"):
        model(torch.zeros(1, 5, dtype=torch.int64), cache=cache)
