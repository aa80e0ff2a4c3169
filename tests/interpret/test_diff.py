import copy

import numpy as np
import pytest
import torch

from journey.interpret import diff
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer


@pytest.fixture(scope="module")
def other(tokenizer):
    return GPT(GPTConfig.make("qwen3", tokenizer.vocab_size, 64, 2, 32, n_head=4))


def test_weights_by_layer_and_matrix(pair):
    parent, child = pair
    changed = copy.deepcopy(parent)
    with torch.no_grad():
        changed.blocks[1].attention.q.weight.mul_(1.25)
        changed.norm.weight.mul_(3)  # not a matrix
    result = {(row["layer"], row["matrix"]): row["change"] for row in diff.weights(parent, changed)}
    assert result.pop((1, "attention.q")) == pytest.approx(0.25, rel=1e-5)
    assert set(result.values()) == {0}
    assert {layer for layer, _ in result} == {None, 0, 1, 2}
    assert (None, "embed") in result and (None, "head") not in result  # tied
    noise = {row["matrix"]: row["change"] for row in diff.weights(parent, child) if row["layer"] == 0}
    for name, before in parent.blocks[0].named_parameters():
        if before.dim() > 1:
            after = child.blocks[0].get_parameter(name)
            expected = np.linalg.norm((after - before).detach().numpy()) / np.linalg.norm(before.detach().numpy())
            assert noise[name.removesuffix(".weight")] == pytest.approx(expected, rel=1e-4)


@torch.inference_mode()
def test_kl_is_that_of_transformers_by_hand(pair, references, tokenizer, documents):
    items = diff.kl(*pair, tokenizer, documents, max_bytes=200)
    longest = 0
    for document, item in zip(documents, items, strict=True):
        ids = [tokenizer.bos, *tokenizer.encode(document.text[:200])]
        longest = max(longest, len(ids))
        total = 0.0
        for t in range(1, len(ids)):
            start = 0
            while t - start > 64:
                start += 32
            p, q = (model(torch.tensor([ids[start:t]])).logits[0, -1].double().softmax(-1) for model in references)
            total += (p * (p / q).log()).sum().item()
        assert item["id"] == document.id
        assert item["tokens"] == len(ids) - 1
        assert item["nats"] == pytest.approx(total / (len(ids) - 1), abs=1e-4)
    assert longest > 65  # or the windows were not tried


def test_kl_has_a_direction(pair, tokenizer, documents):
    there, back = diff.kl(*pair, tokenizer, documents), diff.kl(*pair[::-1], tokenizer, documents)
    assert there[0]["nats"] > 0
    assert there[0]["nats"] != pytest.approx(back[0]["nats"], rel=1e-4)
    assert all(item["nats"] == pytest.approx(0, abs=1e-5) for item in diff.kl(pair[0], pair[0], tokenizer, documents))


@torch.inference_mode()
def test_cka_is_the_plain_formula_on_transformers_residuals(pair, references, tokenizer, documents):
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with centred n x n kernels, as in the paper."""
    streams = [[], []]
    for document in documents:
        ids = torch.tensor([[tokenizer.bos, *tokenizer.encode(document.text)][:64]])
        for stream, model in zip(streams, references, strict=True):
            stream.append(torch.stack(residuals(model, ids))[:, 0, 1:].double())
    before, after = (torch.cat(stream, 1) for stream in streams)  # (n_layer + 1, n, C)
    n = before.shape[1]
    H = torch.eye(n, dtype=torch.double) - 1 / n
    expected = []
    for x, y in zip(before, after, strict=True):
        K, L = H @ x @ x.T @ H, H @ y @ y.T @ H
        expected.append(((K * L).sum() / ((K * K).sum() * (L * L).sum()).sqrt()).item())
    assert diff.cka(*pair, tokenizer, documents) == pytest.approx(expected, abs=1e-5)
    assert min(expected) < 0.99  # or equal streams would pass too


def residuals(model, ids):
    """The input of every block and the output of the last, before the final norm (hidden_states norms the last)."""
    found = []
    blocks = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    norm = model.transformer.ln_f if hasattr(model, "transformer") else model.model.norm
    hooks = [block.register_forward_pre_hook(lambda module, args: found.append(args[0])) for block in [*blocks, norm]]
    model(ids)
    for hook in hooks:
        hook.remove()
    return found


def test_cka_ignores_rotation_scale_and_shift():
    torch.manual_seed(0)
    x = torch.randn(500, 16)
    rotation = torch.linalg.qr(torch.randn(16, 16)).Q
    moments = diff.Moments()
    for part in (slice(0, 200), slice(200, 500)):
        moments.add(x[part], 3 * x[part] @ rotation + 7)
    assert moments.cka() == pytest.approx(1, abs=1e-6)
    independent = diff.Moments()
    independent.add(x, torch.randn(500, 16))
    assert independent.cka() < 0.1


def test_obstacles_are_named(pair, other, tokenizer):
    parent, child = pair
    assert diff.obstacle(parent, child, tokenizer, tokenizer) == ""
    assert "they have different shapes: " in diff.obstacle(parent, other, tokenizer, tokenizer)
    assert "n_layer 3 and 2" in diff.obstacle(parent, other, tokenizer, tokenizer)
    longer = Tokenizer.from_merges(bpe.train(bpe.count_words(["aaa bbb aaa bbb abab"]), 268, len(SPECIALS)))
    assert diff.obstacle(parent, child, tokenizer, longer) == "they have different tokenizers"
