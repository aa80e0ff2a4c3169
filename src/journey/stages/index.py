"""Index: a text in passages, found by words (BM25) and by meaning (vectors), for `journey ask`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.metrics import metric
from journey.pair import open_pair
from journey.stages.cost import Cost
from journey.stages.inputs import Input, names
from journey.stages.run import Run, stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Index:
    """Settings of the index stage."""

    data: str = names("installed-docs", Input(("text",)), "the text to look things up in")
    embedder: str = "auto"
    """Where vectors come from: node (the parent's input embeddings), none (words alone), a folder of a
    sentence-transformers model, or auto: MiniLM where `journey-gpt[embeddings]` is installed, else node."""
    whole: bool = False
    """Of documentation every passage, not the opening of each document alone; other text is always whole."""

    def inputs(self) -> dict[str, str]:
        """What `auto` or a folder stands for decides the vectors, and so the node's id."""
        from journey.retrieve.embed import identity

        return {"embedder": identity(self.embedder)}

    def cost(self, before: Sequence[Any]) -> Cost:
        """Of a pocket life's text."""
        return Cost(30, 60e6)


@stage(
    takes="model",
    makes="index",
    why=(
        "A model holds little of a documentation in its weights, but it can be handed the right page. The text is cut "
        "into passages and made searchable in two ways: by words (*BM25*: rare words count more) and by meaning "
        "(*vectors*: passages that a small embedding model places near the question). The two lists are joined by "
        "rank, and what is found goes into the prompt."
    ),
    example="journey index --parent preferred --data my-texts/ --out index",
    shows=("recall_at_5.named", "recall_at_5.not_named", "answer_loss.retrieved vs none"),
    goal="answers with sources",
    version=2,
)
def index(parent: Node, config: Index, run: Run) -> dict[str, Any]:
    """Write the index and choose on the dev questions how much the vectors have to say."""
    import numpy as np

    from journey.retrieve import embed, passages
    from journey.retrieve import index as built

    model, tokenizer = open_pair(parent.path)
    text = run.corpora["data"]
    found = list(passages.read(text, config.whole))
    if not found:
        raise JourneyError(f'"{config.data}" has no text to look things up in: give another')

    characters = sum(len(passage.text) for passage in found)
    built.write_words(
        run.folder / "index.sqlite", found, lambda done: run.progress(done, characters, "characters indexed")
    )
    embedder, texts = embed.resolve(config.embedder), [passage.searched for passage in found]
    made: dict[str, Any] = {"kind": "none", "name": "none", "width": 0}
    if embedder != "none":
        encoder: embed.Encoder
        if embedder == "node":
            encoder = embed.NodeEncoder.fit(texts, model, tokenizer, parent.name, run.seed)
            encoder.save(run.folder / "encoder.npz")
        else:
            run.say(f"{run.name}: {len(texts):,} passages to embed with {embedder}")
            encoder = embed.SentenceEncoder(embedder)
        chunks = embed.embed(encoder, texts, run.scratch, lambda done: run.progress(done, len(texts), "passages"))
        vectors = np.concatenate(list(chunks))  # (N, C)
        np.save(run.folder / "vectors.npy", vectors)
        made = encoder.facts() | {"width": vectors.shape[1]}
    node = run.given["data"]
    facts = {
        "passages": len(found),
        "text": {"id": node.id, "name": node.name, "fingerprint": text.fingerprint},
        "embedder": made,
        "fusion": {"weight": 0.0, "questions": 0, "tried": []},
    }
    built.write_facts(run.folder, facts)
    facts["fusion"] = built.choose_weight(built.Index(run.folder, model, tokenizer), text.questions("dev"))
    built.write_facts(run.folder, facts)
    return {"metrics": _metrics(facts)}


def _metrics(facts: dict[str, Any]) -> dict[str, Any]:
    fusion = facts["fusion"]
    metrics = {
        "passages": metric(facts["passages"], "passages"),
        "width": metric(facts["embedder"]["width"], "numbers", f"a vector, made by {facts['embedder']['name']}"),
        "vectors_weight": metric(fusion["weight"], "", "beside BM25's 1 in the fusion of ranks"),
    }
    if tried := {one["weight"]: one["mrr10"] for one in fusion["tried"]}:
        convention = f"{fusion['questions']} dev questions, on which the weight was chosen"
        metrics["dev_mrr10"] = metric(tried[fusion["weight"]], "", convention)
        metrics["dev_mrr10_bm25"] = metric(tried[0.0], "", convention)
    return metrics
