import pytest
import torch

from journey.interpret import heads


@torch.inference_mode()
def by_hand(reference, rows):
    """The definitions one position at a time, over transformers' own attentions and losses."""
    n_layer, n_head = reference.config.num_hidden_layers, reference.config.num_attention_heads
    scores = {name: [[0.0] * n_head for _ in range(n_layer)] for name in ("induction", "previous", "duplicate")}
    first, second = [], []
    for ids in rows:
        L = len(ids) // 2
        out = reference(ids[None], output_attentions=True)
        log_p = out.logits[0].log_softmax(-1)
        nats = [-log_p[t - 1, ids[t]].item() for t in range(1, len(ids))]
        first.append(sum(nats[1:L]) / (L - 1))
        second.append(sum(nats[L + 1 :]) / (L - 1))
        for layer in range(n_layer):
            for head in range(n_head):
                pattern = out.attentions[layer][0, head]
                before = [pattern[q, q - 1].item() for q in range(1, len(ids))]
                same, following = [], []
                for q in range(L + 1, len(ids)):
                    (occurrence,) = [k for k in range(q) if ids[k] == ids[q]]
                    same.append(pattern[q, occurrence].item())
                    following.append(pattern[q, occurrence + 1].item())
                for name, values in (("previous", before), ("duplicate", same), ("induction", following)):
                    scores[name][layer][head] += sum(values) / len(values) / len(rows)
    return first, second, scores


def test_scores_and_losses_are_those_of_transformers(pair, references, tokenizer):
    result = heads.repeat(pair[0], tokenizer, n=10, seed=3)
    rows = heads.sequences(tokenizer, pair[0].config.n_ctx, 10, seed=3)
    first, second, scores = by_hand(references[0], rows)
    assert result["repeat"]["first"] == pytest.approx(first, abs=1e-4)
    assert result["repeat"]["second"] == pytest.approx(second, abs=1e-4)
    for name, expected in scores.items():
        for ours, theirs in zip(result["heads"][name], expected, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)


def test_perfect_heads_score_one():
    L = 6
    T = 2 * L + 1
    induction, previous, duplicate = (torch.zeros(T, T) for _ in range(3))
    for q in range(L + 1, T):
        induction[q, q - L + 1] = 1
        duplicate[q, q - L] = 1
    for q in range(1, T):
        previous[q, q - 1] = 1
    pattern = torch.stack([induction, previous, duplicate])[None]  # (1, 3, T, T)
    scores = heads.head_scores(pattern)
    assert scores["induction"].tolist() == [[1, 0, 0]]
    assert scores["previous"].tolist() == [[0, 1, 0]]
    assert scores["duplicate"].tolist() == [[0, 0, 1]]


def test_sequences_are_two_copies_of_different_ordinary_tokens(tokenizer):
    rows = heads.sequences(tokenizer, 256, 20, seed=0)
    assert rows.shape == (20, 97)
    assert (rows[:, 0] == tokenizer.bos).all()
    assert torch.equal(rows[:, 1:49], rows[:, 49:])
    for row in rows[:, 1:49].tolist():
        assert len(set(row)) == 48
        assert not set(row) & set(tokenizer.special.values())
    assert not torch.equal(rows, heads.sequences(tokenizer, 256, 20, seed=1))
    assert heads.sequences(tokenizer, 20, 2, seed=0).shape == (2, 19)


def test_the_result_does_not_depend_on_how_many_run_at_once(pair, tokenizer, monkeypatch):
    together = heads.repeat(pair[0], tokenizer, n=5)
    monkeypatch.setattr(heads, "_SEQUENCES_AT_ONCE", 2)
    apart = heads.repeat(pair[0], tokenizer, n=5)
    assert together["repeat"]["second"] == pytest.approx(apart["repeat"]["second"], abs=1e-4)
    assert together["heads"]["induction"][1] == pytest.approx(apart["heads"]["induction"][1], abs=1e-5)
