"""The files that the subjects of a node open, and the held-out text that they are asked about."""

from collections.abc import Sequence
from pathlib import Path

from journey import measuring, runner
from journey.benching import yardstick
from journey.benching.rounds import Model
from journey.benching.subject import SCORED, Subject, missing
from journey.checkpoint import Node
from journey.console import Console
from journey.data.corpus import Corpus
from journey.data.drawing import draw
from journey.data.sources import Document
from journey.errors import JourneyError
from journey.evaluate import perplexity
from journey.infer import gguf
from journey.model import huggingface
from journey.model.adapter import is_adapter
from journey.pair import open_pair


def prepare(
    name: str,
    node: Node | None,
    subjects: Sequence[Subject],
    documents: int,
    journey: Path,
    folder: Path,
    console: Console,
) -> tuple[Model, dict[str, str]]:
    """A node, or the yardstick of this name, for the subjects: what is not there yet is written into `folder`. Subjects
    that cannot be measured here have no file: their names, and why."""
    console.begin(name, "reading the model")
    whole = node.path if node else folder / "model"
    if node is None:
        yardstick.write(name, whole)
    model, tokenizer = open_pair(whole)
    if is_adapter(whole):
        whole = folder / "merged"
        huggingface.save(model, whole)
        tokenizer.save(whole)
    files: dict[str, Path] = {}
    left_out = {subject.name: why for subject in subjects if (why := missing(subject))}
    for subject in [subject for subject in subjects if subject.name not in left_out]:
        files[subject.name] = whole
        if subject.runtime == "llama.cpp":
            console.begin(name, f"writing {subject.precision} for llama.cpp")
            files[subject.name] = folder / f"{subject.precision}.gguf"
            try:
                gguf.write(model, tokenizer, files[subject.name], subject.precision)
            except JourneyError as error:
                left_out[subject.name] = str(error)
                del files[subject.name]
    rows, row_of, n_bytes = [], [], []
    if any(subject.runtime in SCORED for subject in subjects):
        held_out = _held_out(node, journey, documents)
        for i, (ids, size) in enumerate(perplexity.encode(tokenizer, held_out, perplexity.MAX_BYTES)):
            windows = [([*row], known) for row, known in perplexity.windows(ids, model.config.n_ctx)]
            rows += windows
            row_of += [i] * len(windows)
            n_bytes.append(size)
    config = model.config
    return Model(name, config.n_params, config.n_ctx, tokenizer.n_ids, files, rows, row_of, n_bytes), left_out


def _held_out(node: Node | None, journey: Path, n: int) -> list[Document]:
    """At most n test documents of each text of the journey that a node is of; none of a node from elsewhere."""
    plan = runner.standing_plan(journey)
    if not (node and n and plan and any(entry["id"] == node.id for entry in plan["stages"])):
        return []
    corpora = [Corpus(text.path) for text in runner.texts(journey)]
    return [each for corpus in corpora for each in draw(corpus.documents(measuring.SPLIT), n, plan["seed"])]
