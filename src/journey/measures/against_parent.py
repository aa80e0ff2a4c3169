"""How far a stage moved a model from the one before it: in its weights, its predictions, and what its layers hold."""

from dataclasses import dataclass

from journey.fields import Several
from journey.measure import Bench, Seen, Subject, dots, measure, score_keys, skipped, thinned
from journey.report.blocks import Block, Cell, Curves, Fold, Heading, Line, Mark, Prose, Row, Table, Text
from journey.report.format import number
from journey.scores import JSON, Items, Score, Taken

WEIGHTS = (
    "How far each weight matrix moved from the parent: the length of the difference over the length of the "
    "parent's matrix (Frobenius norms), in percent."
)
KL = (
    "How different the predictions are from the parent's: the mean Kullback-Leibler divergence from the "
    "parent's distribution to the child's at every token of held-out text. 0 means that nothing a reader "
    "could see has changed."
)
CKA = (
    "How alike the inner states of parent and child are, layer by layer, up to rotation and scale (linear CKA "
    "of the residual stream): 1 is the same geometry. Layer 0 is the embedding."
)


@dataclass(frozen=True)
class AgainstParent:
    """Settings of the measure."""

    documents: Several = 100
    """Of each text; two models are run over whole distributions, which took most of the time of measuring."""


@measure(
    of="model",
    title="Inside, against the parent",
    why="What a stage did to the model itself.",
    keys=("kl.{text}",),
    reads=("documents", "parent"),
    version=1,
)
def against_parent(bench: Bench, config: AgainstParent) -> Taken:
    """KL by document, CKA by layer, and the change of each matrix; nothing for a model without a parent."""
    from journey.interpret import diff

    if bench.parent is None or bench.before is None:
        return Taken()
    before, its_tokenizer = bench.before
    if reason := diff.obstacle(before, bench.model, its_tokenizer, bench.tokenizer):
        return Taken(facts={"skipped": reason})
    some = {name: thinned(held_out, config.documents) for name, held_out in bench.documents.items()}
    parent, items, scores = bench.parent.name, {}, []
    for name, held_out in some.items():
        found = diff.kl(before, bench.model, bench.tokenizer, held_out)  # nats per token of each document
        items[name] = Items.of({"id": i["id"], "nats": i["nats"] * i["tokens"], "tokens": i["tokens"]} for i in found)
        scores.append(
            Score(
                key=f"kl.{name}",
                label=f"KL from the parent, {name}",
                num="nats",
                den="tokens",
                items=name,
                unit="nats/token",
                stated="0: the same prediction at every token",
                question=f"How far did its predictions on {name} move from {parent}'s?",
                item="documents",
                convention=f"KL({parent} ‖ {bench.node.name}), mean over tokens; bootstrap over documents, "
                "2,000 resamples",
            )
        )
    facts: dict[str, JSON] = {
        "weights": [dict(moved) for moved in diff.weights(before, bench.model)],
        "cka": [*diff.cka(before, bench.model, bench.tokenizer, next(iter(some.values())))] if some else [],
    }
    return Taken(items, scores, facts)


@against_parent.chapter
def draw(seen: Seen) -> list[Block]:
    """Predictions, inner states and weights."""
    made: list[Block] = [
        dots(seen, key, f"KL on {key.partition('.')[2]}, test split.", [Mark(0.0, "no change")])
        for key in score_keys(seen)
    ]
    cka = {subject: taken.facts["cka"] for subject, taken in seen.items() if taken.facts.get("cka")}
    if cka:
        lines = [Line(title(s), [(float(i), y) for i, y in enumerate(ys)], s.colour) for s, ys in cka.items()]  # type: ignore[arg-type, misc]
        layers = sorted({x for line in lines for x, _ in line.points})  # type: ignore[misc]
        low = min(0.9, *(y for line in lines for _, y in line.points))  # type: ignore[misc]
        made.append(Curves("CKA by layer", "layer", "CKA", lines, caption=CKA, values=layers, y_range=(low, 1.0)))
    tables = [
        Fold(f"The weights, {title(subject)}", [_weights(title(subject), taken.facts["weights"])])  # type: ignore[arg-type]
        for subject, taken in seen.items()
        if taken.facts.get("weights")
    ]
    return [
        *skipped(seen, title),
        Heading("Predictions and inner states"),
        Text(Prose(KL)),
        Row(made),
        Heading("Weights"),
        Text(Prose(WEIGHTS)),
        *tables,
    ]


def title(subject: Subject) -> str:
    """`base → chat`."""
    return f"{subject.parent or 'parent'} → {subject.name}"


def _weights(title: str, weights: list[dict[str, str | int | float | None]]) -> Table:
    """Matrices down, layers across; what belongs to no layer (embedding, last norm) in the last column."""
    layers = sorted({int(w["layer"]) for w in weights if w["layer"] is not None})
    outside = any(w["layer"] is None for w in weights)
    cells = {(w["matrix"], w["layer"]): float(w["change"] or 0.0) for w in weights}
    most = max(cells.values()) or 1.0
    columns: list[int | None] = [*layers, *([None] if outside else [])]

    def cell(matrix: str, layer: int | None) -> Cell:
        value = cells.get((matrix, layer))
        return Cell("") if value is None else Cell(number(100 * value, decimals=1), heat=value / most)

    matrices = dict.fromkeys(str(w["matrix"]) for w in weights)
    rows = [[Cell(matrix, code=True), *(cell(matrix, layer) for layer in columns)] for matrix in matrices]
    head = ["matrix", *("outside" if layer is None else f"layer {layer}" for layer in columns)]
    return Table(f"{title}: change of each matrix, %", head, rows, style="grid")
