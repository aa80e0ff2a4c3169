"""Writing with an encoder–decoder: the likeliest token each time, or a search that keeps several beginnings (beams)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.infer.engine import Completion
from journey.model.seq2seq import Memory, Seq2Seq, padded


class Written:
    """Keys and values of what has been written, of rows of one length (`model.layers.Cache`)."""

    def __init__(self, rows: int, device: torch.device | str = "cpu") -> None:
        self.rows, self.length, self.device = rows, 0, device
        self.kept: dict[int, tuple[Tensor, ...]] = {}

    def extend(self, T: int) -> tuple[Tensor, Tensor]:
        """Positions (B, T) of T more tokens, and which keys each sees (B, 1, T, S)."""
        positions = torch.arange(self.length, self.length + T, device=self.device)
        self.length += T
        seen = torch.arange(self.length, device=self.device) <= positions[:, None]  # (T, S)
        return positions.expand(self.rows, T), seen.expand(self.rows, 1, T, self.length)

    def update(self, layer: int, *new: Tensor) -> tuple[Tensor, ...]:
        """Take in a layer's keys and values, each (B, T, H, head_dim); all so far."""
        before = self.kept.get(layer)
        self.kept[layer] = new if before is None else tuple(map(_joined, before, new))
        return self.kept[layer]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, each as often as it is named."""
        self.rows = len(rows)
        self.kept = {layer: tuple(one[list(rows)] for one in kept) for layer, kept in self.kept.items()}


def _joined(before: Tensor, new: Tensor) -> Tensor:
    return torch.cat([before, new], 1)


@torch.inference_mode()
def translate(
    model: Seq2Seq,
    sources: Sequence[Sequence[int]],
    *,
    start: int,
    eos: int,
    beams: int = 1,
    max_new_tokens: int | None = None,
    batch_size: int = 64,
) -> list[Completion]:
    """What the model writes for each source: greedily, or the best that a search with several beams finds.

    A completion ends with `eos`, which it includes, or after max_new_tokens or n_ctx - 1 tokens. Raises JourneyError
    for a source that is empty or longer than n_ctx.
    """
    config = model.config
    for source in sources:
        if not source:
            raise JourneyError("the text to translate is empty: give some")
        if len(source) > config.n_ctx:
            raise JourneyError(f"the text has {len(source)} tokens, the model reads {config.n_ctx}: shorten it")
    limit = min(max_new_tokens or config.n_ctx, config.n_ctx - 1)
    found: dict[int, list[int]] = {}
    order = sorted(range(len(sources)), key=lambda row: len(sources[row]))  # like lengths, little padding
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        batch = padded([sources[row] for row in rows], config.pad).to(model.embed.weight.device)
        written = (
            _greedy(model, batch, start, eos, limit) if beams == 1 else _beam(model, batch, start, eos, limit, beams)
        )
        found |= dict(zip(rows, written, strict=True))
    return [Completion(ids := found[row], ended=ids[-1:] == [eos]) for row in range(len(sources))]


def _greedy(model: Seq2Seq, source: Tensor, start: int, eos: int, limit: int) -> list[list[int]]:
    written: list[list[int]] = [[] for _ in range(len(source))]
    going, memory, cache = [*range(len(source))], model.encode(source), Written(len(source), source.device)
    last = [start] * len(source)
    while going:
        last = _log_probs(model, last, memory, cache).argmax(-1).tolist()
        for row, token in zip(going, last, strict=True):
            written[row].append(token)
        left = [i for i, token in enumerate(last) if token != eos and len(written[going[i]]) < limit]
        if len(left) < len(going):
            going, last, memory = [going[i] for i in left], [last[i] for i in left], memory.rows(left)
            cache.keep(left)
    return written


def _log_probs(model: Seq2Seq, last: Sequence[int], memory: Memory, cache: Written) -> Tensor:
    """Log-probabilities (B, V) of what follows the last token of each row; pad is never written."""
    ids = torch.tensor(last, device=memory.seen.device)[:, None]
    logits = model.decode(ids, memory, cache)[:, -1]
    found = logits.log_softmax(-1)
    found[:, model.config.pad] = -torch.inf
    return found


@dataclass
class _Search:
    """One source's beams: (sum of log-probabilities, ids), the best first, and what has ended, by its mean."""

    beams: list[tuple[float, list[int]]] = field(default_factory=lambda: [(0.0, [])])
    ended: list[tuple[float, list[int]]] = field(default_factory=list)


def _beam(model: Seq2Seq, source: Tensor, start: int, eos: int, limit: int, n: int) -> list[list[int]]:
    """Beam search as transformers has it by default: of the 2n likeliest continuations of a source's beams, those among
    the first n that end are kept with their log-probability *per token*, the first n that go on are the next beams; and
    a search ends when it has n ended ones and no beam, as it is, is likelier per token than the worst of them."""
    searches = [_Search() for _ in range(len(source))]
    going, memory, cache = [*range(len(source))], model.encode(source), Written(len(source), source.device)
    while going:
        last = [ids[-1] if ids else start for i in going for _, ids in searches[i].beams]
        log_probs = _log_probs(model, last, memory, cache)  # (all beams, V)
        V, row, left, rows = log_probs.size(1), 0, [], []  # rows: which of them the next beams go on from
        for i in going:
            search, first = searches[i], row
            row += len(search.beams)
            sums = torch.tensor([total for total, _ in search.beams], device=log_probs.device)[:, None]
            values, places = (log_probs[first:row] + sums).flatten().topk(min(2 * n, V * len(search.beams)))
            beams: list[tuple[float, list[int]]] = []
            origin: list[int] = []
            for rank, (total, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
                ids = [*search.beams[place // V][1], place % V]
                if ids[-1] == eos or len(ids) == limit:
                    if rank < n:
                        search.ended.append((total / len(ids), ids))
                elif len(beams) < n:
                    beams.append((total, ids))
                    origin.append(first + place // V)
            search.beams = beams
            search.ended = sorted(search.ended, key=lambda one: -one[0])[:n]
            if beams and (len(search.ended) < n or beams[0][0] / len(beams[0][1]) > search.ended[-1][0]):
                left.append(i)
                rows += origin
        going, memory = left, memory.rows(rows)
        cache.keep(rows)
    return [search.ended[0][1] for search in searches]


@torch.inference_mode()
def attention(model: Seq2Seq, source: Sequence[int], written: Sequence[int]) -> Tensor:
    """Cross-attention (decoder_layers, n_head, T, S) while the T ids of `written` are written, its first one `start`:
    row t is where the decoder looked when it chose what follows it."""
    device = model.embed.weight.device
    trace: dict[tuple[str, int], Tensor] = {}
    model.decode(
        torch.tensor([[*written]], device=device), model.encode(torch.tensor([[*source]], device=device)), trace=trace
    )
    return torch.stack([trace["cross", layer][0] for layer in range(model.config.decoder_layers)])
