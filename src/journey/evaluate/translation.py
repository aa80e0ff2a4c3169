"""What an encoder–decoder makes of pairs that it has not seen, and where it looks meanwhile."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from journey.data.translations import Translation
from journey.evaluate import overlap
from journey.infer.translate import attention, translate
from journey.model.seq2seq import Seq2Seq

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

READABLE = 16  # tokens of both sides: about so many make a picture that can be read


def said_of(model: Seq2Seq, tokenizer: "Tokenizer", texts: Sequence[str], beams: int) -> list[str]:
    """What the model says of each text in the other language; one that has too many tokens it leaves unsaid."""
    ids = tokenizer.encode_batch(texts)
    fitting = [i for i, one in enumerate(ids) if 0 < len(one) <= model.config.n_ctx]
    found = translate(model, [ids[i] for i in fitting], start=tokenizer.bos, eos=tokenizer.eos, beams=beams)
    said = dict(zip(fitting, found, strict=True))
    return [
        tokenizer.decode([t for t in said[i].ids if t != tokenizer.eos]) if i in said else "" for i in range(len(ids))
    ]


def score(model: Seq2Seq, tokenizer: "Tokenizer", pairs: Sequence[Translation], beams: int) -> list[dict[str, Any]]:
    """Each pair with what was said of its source by beam search, whether that is exactly its target, whether the greedy
    one is, and the counts of BLEU and chrF (`bleu.0`, …)."""
    sources, wanted = [pair.source for pair in pairs], [pair.target for pair in pairs]
    said = said_of(model, tokenizer, sources, beams)
    greedy = said_of(model, tokenizer, sources, 1) if beams > 1 else said
    counted = overlap.counts(said, wanted)
    columns = {f"{name}.{i}": table[:, i].tolist() for name, table in counted.items() for i in range(table.shape[1])}
    return [
        {"id": pair.id, "kind": pair.kind, "source": pair.source, "target": pair.target, "said": text}
        | {"exact": text == pair.target, "greedy": plain == pair.target}
        | {name: column[i] for name, column in columns.items()}
        for i, (pair, text, plain) in enumerate(zip(pairs, said, greedy, strict=True))
    ]


def looks(model: Seq2Seq, tokenizer: "Tokenizer", pairs: Sequence[Translation], n: int) -> list[dict[str, Any]]:
    """Of n pairs, as evenly of each kind as can be, the tokens read and written (greedily) and the cross-attention
    [layer][head][written][read]: row t is where the decoder looked when it wrote token t."""
    kinds = dict.fromkeys(pair.kind for pair in pairs)
    found = []
    for kind in kinds:
        lengths = [
            (abs(len(tokenizer.encode(p.source)) + len(tokenizer.encode(p.target)) - READABLE), i)
            for i, p in enumerate(pairs)
            if p.kind == kind
        ]
        for _, i in sorted(lengths)[: max(1, n // len(kinds))]:
            source = tokenizer.encode(pairs[i].source)
            written = translate(model, [source], start=tokenizer.bos, eos=tokenizer.eos)[0].ids
            weights = attention(model, source, [tokenizer.bos, *written[:-1]])
            found.append(
                {
                    "kind": kind,
                    "read": [shown(tokenizer, i) for i in source],
                    "written": [shown(tokenizer, i) for i in written],
                    "heads": [[[[round(v, 3) for v in row] for row in h] for h in layer] for layer in weights.tolist()],
                }
            )
    return found


def shown(tokenizer: "Tokenizer", id: int) -> str:
    """A token as the eye reads it: a space is ·."""
    return tokenizer.decode([id]).replace(" ", "·")
