"""GGUF: bytes, bits per byte and decoding speed of each type in llama.cpp against the model's own weights in ours.

    python benchmarks/quantized.py NODE [--text NODE ...] [--types f16 q8_0 q4_0] [--importance NODE] [--documents N]
        [--threads N]

NODE is a model's folder. The held-out documents, N of each text at most, are those of the text nodes given, or of all
that stand beside it. With --importance, a text node, the types below 8 bits are made once more by its dev split, and
held against those made without. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
import torch

from journey.checkpoint import open_node
from journey.data.corpus import Corpus
from journey.evaluate import quantized, statistics
from journey.lineage import surroundings
from journey.stages.quantize import Quantize, quantize
from journey.stages.run import Run

OURS, WEIGHED = "ours fp32", " by importance"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("node", type=Path)
    parser.add_argument("--text", type=Path, nargs="*")
    parser.add_argument("--types", nargs="*", default=Quantize().types)
    parser.add_argument("--importance", default="")
    parser.add_argument("--documents", type=int, default=quantized.DOCUMENTS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    beside = [path for path in arguments.node.resolve().parent.iterdir() if (path / "lineage.json").exists()]
    texts = [open_node(path) for path in arguments.text or beside]
    corpora = {text.name: Corpus(text.path) for text in texts if text.stage == "text"}
    documents = {name: corpus.documents("test") for name, corpus in corpora.items()}
    questions = [question for corpus in corpora.values() for question in corpus.questions("test")][:200]
    settings = {"": Quantize(types=tuple(arguments.types))}
    if arguments.importance:
        fewer = tuple(type for type in arguments.types if type not in ("f32", "f16", "q8_0"))
        settings[WEIGHED] = Quantize(types=fewer, importance=arguments.importance)
    seconds, sides = 0.0, {}
    for how, config in settings.items():
        with tempfile.TemporaryDirectory() as folder:
            made = quantize(arguments.node, config, Run(Path(folder) / "gguf"))
            seconds += made.lineage["seconds"]
            found = quantized.measure(made.path, arguments.node, documents, questions, arguments.documents)
        sides |= {type + how: side for type, side in found["types"].items()}

    reference = found["reference"]
    n_bytes = [item["bytes"] * 0.6931471805599453 for item in reference["items"]]  # nats over these are bits per byte
    nats = {name: [item["nats"] for item in side["items"]] for name, side in {OURS: reference, **sides}.items()}
    rows = {}
    for name, side in {OURS: reference, **sides}.items():
        bits, change = statistics.ratio(nats[name], n_bytes), statistics.change(nats[name], nats[OURS])
        rows[name] = {
            "bytes": side["bytes"],
            "bits_per_byte": [bits.value, bits.low, bits.high],
            "change_percent": [100 * change.value, 100 * change.low, 100 * change.high],
            "tokens_per_second": side["tokens_per_second"],
            "times_ours": side["tokens_per_second"] / reference["tokens_per_second"],
        }
    machine = surroundings()["machine"]
    print(f"{machine['cpu']}, {os.cpu_count()} cores, {arguments.threads} threads, {found['runtime']}")
    print(f"{len(reference['items'])} documents; all types written in {seconds:.1f} s")
    for name, row in rows.items():
        bits, change = row["bits_per_byte"], row["change_percent"]
        print(
            f"{name:21} {row['bytes']:>12,} bytes  {bits[0]:.4f} bits/byte [{bits[1]:.4f}, {bits[2]:.4f}]  "
            f"{change[0]:+.3f} % [{change[1]:+.3f}, {change[2]:+.3f}]  {row['tokens_per_second']:8,.0f} tokens/s  "
            f"{row['times_ours']:.2f} x ours"
        )
    for name in (name for name in rows if name.endswith(WEIGHED)):
        change = statistics.change(nats[name], nats[name.removesuffix(WEIGHED)])
        value, low, high = 100 * change.value, 100 * change.low, 100 * change.high
        rows[name]["change_by_importance_percent"] = [value, low, high]
        print(f"{name} against without: {value:+.3f} % [{low:+.3f}, {high:+.3f}]")
    exact, default = found["f32_logits_max_difference"], found["f32_default_logits_max_difference"]
    print(f"logits of the f32 file against ours: {exact:.1e} of the largest, by llama.cpp's defaults {default:.1e}")
    print(
        f"same ids: {found['prompts']['equal']} of {found['prompts']['n']} prompts, "
        f"{found['texts']['equal']} of {found['texts']['n']} documents"
    )
    keys = ("f32_logits_max_difference", "f32_default_logits_max_difference", "prompts", "texts", "runtime")
    print(json.dumps({"types": rows, **{key: found[key] for key in keys}, "machine": machine}))


if __name__ == "__main__":
    main()
