"""Are the learning rates that follow from a model's size good ones? Fractions and multiples of them, on dev.

    python benchmarks/rates.py sft NODE --data installed-docs-node --replay-data NODE [--set max_examples=2500]
    python benchmarks/rates.py continue NODE --data code-node --replay-data docs-node --set tokens=150_000
    python benchmarks/rates.py dpo NODE --data pairs-node

Trains NODE once for each factor and seed, with everything else as the stage has it, and prints what the dev split says:
the loss, and the bits per byte of the replayed text (what the model forgets). Run it for models of different sizes: the
rule is right where factor 1 is near the best of each. The last line is JSON.
"""

import argparse
import json
import math
import tempfile
import typing
from pathlib import Path

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
from journey import fields, stages
from journey.checkpoint import open_node
from journey.data.corpus import Corpus
from journey.evaluate import perplexity
from journey.model.huggingface import load_config
from journey.pair import open_pair
from journey.stages.dpo import DPO
from journey.stages.run import Run
from journey.stages.sft import SFT

DOCUMENTS = 200  # of the dev split of the text that is not to be forgotten


def main() -> None:
    """Train with each rate and print what dev says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=["sft", "lora", "continue", "dpo"])
    parser.add_argument("node")
    parser.add_argument("--data", required=True)
    parser.add_argument("--replay-data", default="")
    parser.add_argument("--factors", type=float, nargs="+", default=[0.25, 0.5, 1, 2, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    stage, parent = stages.load(asked.stage), open_node(asked.node)
    hints = typing.get_type_hints(stage.config, include_extras=True)
    settings = {key: fields.fit(value, hints[key]) for key, _, value in (each.partition("=") for each in asked.set)}
    settings |= {"data": asked.data} | ({"replay_data": asked.replay_data} if asked.replay_data else {})
    found = []
    with tempfile.TemporaryDirectory() as folder:
        rate = chosen(stage.config(**settings), parent)
        for factor in asked.factors:
            for seed in asked.seeds:
                config = stage.config(**settings, lr=rate * factor)
                node = stage(parent, config, Run(Path(folder) / f"{factor}-{seed}", seed=seed))
                metrics = node.lineage["metrics"]
                names = ("dev_loss", "dev_bits_per_byte", "dev_accuracy")
                line = {"factor": factor, "lr": rate * factor, "seed": seed}
                line |= {name: metrics[name]["value"] for name in names if name in metrics}
                if asked.replay_data:
                    line["kept"] = bits_per_byte(node.path, Path(asked.replay_data))
                found.append(line)
                print("  ".join(f"{key} {value:.4g}" for key, value in line.items()), flush=True)
    print(
        json.dumps(
            {"stage": asked.stage, "parameters": load_config(parent.path).n_params, "rate": rate, "found": found}
        )
    )


def chosen(config: typing.Any, parent: typing.Any) -> float:
    """The rate that the stage would choose for this model."""
    shape = load_config(parent.path)
    if isinstance(config, SFT):
        n = 10**6 if config.max_examples is None else config.max_examples
        return config.fitting(shape.n_params, n, shape.n_ctx)[0].lr
    if isinstance(config, DPO):
        return config.fitting(shape.n_params)[0].lr
    made = parent.lineage.get("config", {}) | parent.lineage.get("chosen", {})
    return config.fitting(shape.n_params, shape.n_ctx, made.get("optimizer"))[0].lr


def bits_per_byte(model: Path, text: Path) -> float:
    """Of the dev split of a text."""
    gpt, tokenizer = open_pair(model)
    scores = perplexity.score(gpt.eval(), tokenizer, Corpus(text).documents("dev")[:DOCUMENTS])
    return sum(each["nats"] for each in scores) / math.log(2) / sum(each["bytes"] for each in scores)


if __name__ == "__main__":
    main()
