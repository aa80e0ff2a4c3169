"""The same weights in fewer bits: what each GGUF file weighs, costs and does in llama.cpp."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

from journey.errors import JourneyError
from journey.evaluate.conventions import WILSON
from journey.fields import Several
from journey.measure import Bench, Seen, measure
from journey.report.blocks import Block, Cell, Dot, Dots, Mark, Points, Row, Table, TableRow
from journey.report.format import bytes_, number, power
from journey.scores import JSON, Against, Items, Score, Taken, comparisons, estimates

Q8_COST = 0.5  # percent more bits per byte: the mark for q8_0
FP32 = "fp32"
KINDS = ("f32", "f16", "q8_0", "q6_k", "q5_k_m", "q5_0", "q4_k_m", "q4_0")  # gguf_types.TYPES, whose import takes torch


@dataclass(frozen=True)
class Quantized:
    """Settings of the measure."""

    documents: Several = 40
    """Of each text; what a file costs is a difference on the same documents, so few are enough."""


@measure(
    of="gguf",
    title="Quantized, in llama.cpp",
    why="The same held-out documents, scored by llama.cpp with each file and by our own code with the weights that the "
    "files were made of. A file is good when its bits per byte stay where they were.",
    keys=(
        *(f"bits_per_byte.{kind}" for kind in (FP32, *KINDS)),
        "same_ids.prompts",
        "same_ids.texts",
    ),
    reads=("documents", "questions", "parent"),
    libraries=("xllamacpp",),
    version=1,
)
def quantized(bench: Bench, config: Quantized) -> Taken:
    """Bits of each document by each file, beside those of the weights before."""
    from journey.evaluate import quantized as scorer

    if bench.parent is None:
        raise JourneyError(f"{bench.node.path}: the model that these files were made of does not stand beside them")
    if not scorer.types_of(bench.node.path):  # an adapter alone, which is no model
        return Taken()
    found = scorer.measure(bench.node.path, bench.parent.path, bench.documents, bench.questions, config.documents)
    reference, convention, items, scores = found["reference"], found["convention"], {}, []
    before = [item["nats"] / log(2) for item in reference["items"]]
    for kind, made in {FP32: reference, **found["types"]}.items():
        items[kind] = Items.of(
            {"id": i["id"], "bits": i["nats"] / log(2), "bytes": i["bytes"], FP32: bits}
            for i, bits in zip(made["items"], before, strict=True)
        )
        share = f"in fp32; {100 * made['bytes'] / reference['bytes']:.0f} % of the bytes"
        question = f"Does it predict worse as {kind} than with the weights it was made of?"
        against = (Against(FP32, share, question, num=FP32),) if kind != FP32 else ()
        scores.append(
            Score(
                key=f"bits_per_byte.{kind}",
                label=f"bits per byte as {kind}",
                num="bits",
                den="bytes",
                items=kind,
                unit="bits/byte",
                better="lower",
                change="percent",
                against=against,
                item="documents",
                convention=convention,
                brief=True,
            )
        )
    for what, said in (("prompts", "chat prompts"), ("texts", "held-out documents")):
        equal, n = found[what]["equal"], found[what]["n"]
        items[what] = Items([str(i) for i in range(n)], {"equal": [i < equal for i in range(n)]})
        scores.append(
            Score(
                key=f"same_ids.{what}",
                label=f"{said} cut into the same ids by llama.cpp",
                num="equal",
                items=what,
                share=True,
                unit="%",
                stated=f"{equal:,} of {n:,}; 100 % where the file's tokenizer is ours",
                question=f"How many {said} does llama.cpp cut into exactly our ids?",
                item=said,
                convention=f"of those that spell no special token; {WILSON}",
            )
        )
    facts = {
        "files": {
            FP32: {k: reference[k] for k in ("bytes", "tokens_per_second")},
            **{kind: {k: v for k, v in made.items() if k != "items"} for kind, made in found["types"].items()},
        },
        **{k: found[k] for k in ("prompts", "texts", "runtime", "convention")},
        **{k: found[k] for k in ("f32_logits_max_difference", "f32_default_logits_max_difference")},
    }
    return Taken(items, scores, facts)


@quantized.chapter
def draw(seen: Seen) -> list[Block]:
    """Every set of GGUF files against the weights it was made of."""
    return [block for subject, taken in seen.items() if taken.facts for block in _files(subject.name, taken)]


def _files(name: str, taken: Taken) -> list[Block]:
    costs = {e.key.removesuffix(f" vs {FP32}").partition(".")[2]: e for e in comparisons(taken, name) if e.signed}
    made: list[Block] = []
    if costs:
        marks = [Mark(0.0, FP32), Mark(Q8_COST, f"mark for q8_0: {Q8_COST} %")]
        rows = [Dot(kind, e.size) for kind, e in costs.items()]
        title, unit = "Change in bits per byte from fp32", "% more bits per byte"
        made.append(Dots(title, unit, rows, marks, f"What each file of {name} costs.", str(taken.facts["convention"])))
    files, known = taken.facts["files"], estimates(taken)
    assert isinstance(files, dict)
    body: list[TableRow] = []
    for kind, facts in files.items():
        assert isinstance(facts, dict)
        moved, cost = facts.get("logits_max_difference"), costs.get(kind)
        body.append(
            [
                Cell("fp32, our code" if kind == FP32 else f"{kind}, llama.cpp"),
                bytes_(_float(facts, "bytes")),
                number(100 * _float(facts, "bytes") / _float(files[FP32], "bytes"), "%"),  # type: ignore[arg-type]
                known.get(f"bits_per_byte.{kind}"),
                Cell(cost.size, sign=True) if cost else None,
                None if moved is None else f"{100 * _float(facts, 'logits_max_difference'):.2g} %",
                number(_float(facts, "tokens_per_second"), decimals=0),
            ]
        )
    head = [
        "Weights",
        "bytes",
        "of fp32",
        "bits per byte",
        "change, %",
        "logits off, of the largest",
        "tokens/s, decoding",
    ]
    return [Row([*made, Points(_checked(taken.facts))]), Table("The files, with 95 % intervals", head, body)]


def _float(facts: Mapping[str, JSON], key: str) -> float:
    value = facts[key]
    assert isinstance(value, int | float)
    return float(value)


def _checked(facts: Mapping[str, JSON]) -> list[str]:
    """What was checked beside the scores, in sentences."""
    most = power(_float(facts, "f32_logits_max_difference"))
    said = [f"With weights and cache in fp32, llama.cpp's logits and ours differ by {most} of the largest."]
    for what, how in (
        ("prompts", "The chat template inside the file gives {} of {} prompts exactly the ids that training saw."),
        ("texts", "The tokenizer inside the file cuts {} of {} held-out documents exactly as ours does."),
    ):
        counted = facts[what]
        assert isinstance(counted, dict)
        equal, n = int(_float(counted, "equal")), int(_float(counted, "n"))
        if n:
            wrong = "" if equal == n else f" {n - equal:,} differ: what llama.cpp says of them is of other tokens."
            said.append(how.format(f"{equal:,}", f"{n:,}") + wrong)
    return [*said, f"Run by {facts['runtime']}."]
