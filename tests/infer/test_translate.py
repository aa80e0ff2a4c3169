"""Greedy and beam search of an encoder–decoder against transformers' `generate`, and with the cache against without."""

import pytest
import torch
from transformers import MarianMTModel

from journey.errors import JourneyError
from journey.infer.translate import Written, attention, translate
from journey.model import marian
from journey.model.seq2seq import Seq2Seq, Seq2SeqConfig, padded

V, PAD, BOS, EOS = 30, 27, 28, 29


@pytest.fixture(scope="module")
def model():
    """Half taught to write what it reads: some of what it writes ends, early or late, and the rest goes on."""
    torch.manual_seed(3)
    model = Seq2Seq(Seq2SeqConfig(V, 16, 1, 2, 2, 16, 32, PAD))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        rows = [torch.randint(0, PAD, (int(n),)).tolist() for n in torch.randint(1, 12, (24,))]
        targets = padded([[*row, EOS] for row in rows], -100)
        model(padded(rows, PAD), padded([[BOS, *row] for row in rows], PAD), targets).backward()
        optimizer.step(), optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("marian")
    marian.save(model, folder, start=BOS, eos=EOS)
    return MarianMTModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def sources():
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, PAD, (1 + i % 9,), generator=generator).tolist() for i in range(40)]


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_what_is_written_is_what_transformers_writes(model, theirs, sources, beams):
    ours = translate(model, sources, start=BOS, eos=EOS, beams=beams, max_new_tokens=8, batch_size=16)
    batch = padded(sources, PAD)
    mask = (batch != PAD).long()
    written = theirs.generate(batch, attention_mask=mask, num_beams=beams, max_new_tokens=8, do_sample=False)
    expected = []
    for row in written[:, 1:].tolist():
        expected.append(row[: row.index(EOS) + 1] if EOS in row else [i for i in row if i != PAD])
    assert [found.ids for found in ours] == expected
    lengths = [len(found.ids) for found in ours]
    assert {found.ended for found in ours} == {True, False}  # both kinds were tried
    assert len(set(lengths)) > 3


def test_beams_find_what_is_likelier(model, sources):
    def mean(source, ids):
        logits = model(torch.tensor([source]), torch.tensor([[BOS, *ids[:-1]]]))[0].log_softmax(-1)
        return logits[range(len(ids)), ids].mean().item()

    greedy, wide = (translate(model, sources, start=BOS, eos=EOS, beams=n) for n in (1, 8))
    gained = [mean(s, b.ids) - mean(s, a.ids) for s, a, b in zip(sources, greedy, wide, strict=True)]
    assert sum(gained) > 0 and max(gained) > 0.01


def test_the_cache_changes_nothing(model, sources):
    source = padded(sources[:6], PAD)
    memory = model.encode(source)
    ids = torch.randint(0, PAD, (6, 9), generator=torch.Generator().manual_seed(1))
    whole = model.decode(ids, memory)
    cache = Written(6)
    parts = [model.decode(ids[:, a:b], memory, cache) for a, b in ((0, 4), (4, 5), (5, 9))]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
    cache.keep([5, 0, 0])
    more = model.decode(ids[[5, 0, 0], :1], memory.rows([5, 0, 0]), cache)
    again = model.decode(torch.cat([ids, ids[:, :1]], 1), memory)[[5, 0, 0], -1:]
    torch.testing.assert_close(more, again, atol=1e-5, rtol=1e-4)


def test_a_batch_is_what_each_is_alone(model, sources):
    for beams in (1, 3):
        together = translate(model, sources[:9], start=BOS, eos=EOS, beams=beams)
        alone = [translate(model, [source], start=BOS, eos=EOS, beams=beams)[0] for source in sources[:9]]
        assert together == alone


def test_the_limit_is_kept_and_pad_never_written(model, sources):
    before = model.embed.weight[PAD].clone()
    with torch.no_grad():  # now often the likeliest
        model.embed.weight[PAD] = 9 * model.embed.weight[:PAD].mean(0) + 9 * model.decoder[-1].mlp_norm.bias
    logits = model(padded(sources, PAD), torch.full((len(sources), 1), BOS))
    assert (logits.argmax(-1) == PAD).sum() >= 5
    try:
        for beams in (1, 4):
            found = translate(model, sources, start=BOS, eos=EOS, beams=beams, max_new_tokens=3)
            assert max(len(one.ids) for one in found) == 3
            assert not any(PAD in one.ids for one in found)
    finally:
        with torch.no_grad():
            model.embed.weight[PAD] = before


def test_attention_is_a_distribution_over_the_source(model, sources):
    source, written = sources[8], [BOS, 3, 4]
    found = attention(model, source, written)
    assert found.shape == (2, 2, 3, len(source))
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 3))


def test_a_source_that_cannot_be_read_is_a_line(model):
    with pytest.raises(JourneyError, match="empty: give some"):
        translate(model, [[1], []], start=BOS, eos=EOS)
    with pytest.raises(JourneyError, match="has 17 tokens, the model reads 16: shorten it"):
        translate(model, [[1] * 17], start=BOS, eos=EOS)
    assert translate(model, [], start=BOS, eos=EOS) == []
