"""The same multiple-choice items through lm-evaluation-harness, which reads the folder as any other tool does.

Three of its settings must be ours for the numbers to be equal: `add_bos_token=True` puts the document mark before the
context (its prefix token would stand only before an *empty* one), `target_delimiter: ""` because our contexts end in
their own white space (its default adds a space), and fp32. One difference stays: where a context or an option spells a
special token, transformers' tokenizer reads the token and ours reads text.
"""

import contextlib
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from journey.data.questions import Choice
from journey.files import write_text
from journey.machine import device
from journey.model.quiet import quiet

TASK = "journey_choices"


def write_task(choices: Sequence[Choice], folder: Path) -> None:
    """Write the items as a task that `lm_eval --include_path FOLDER --tasks journey_choices` runs too."""
    folder.mkdir(parents=True, exist_ok=True)
    items = folder.resolve() / "choices.jsonl"
    rows = [{"id": c.id, "context": c.context, "options": list(c.options), "gold": c.gold} for c in choices]
    write_text(items, "".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(items)}, "cache_dir": str(folder.resolve() / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "options",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    write_text(folder / f"{TASK}.yaml", yaml.safe_dump(task, sort_keys=False))


def run(node: Path, task: Path, limit: int | None = None) -> dict[str, Any]:
    """lm-eval's {"acc", "acc_norm", "items"} of the checkpoint folder `node` on the task folder `task`.

    An item is {"id", "logprobs", "acc", "acc_norm"}, the last two 0 or 1. Takes no network; `limit` items at most.
    """
    import lm_eval  # seconds, and only this function needs it
    from lm_eval.tasks import TaskManager

    model = transformers_lm(node, mark=True)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars would run across ours
        tasks = TaskManager(include_path=str(task), include_defaults=False).load([TASK])
        # Not simple_evaluate: that resets the random generators of the process, and asks git and pip about the machine.
        result = lm_eval.evaluate(model, tasks, limit=limit, bootstrap_iters=0)
    samples = sorted(result["samples"][TASK], key=lambda sample: sample["doc_id"])
    items = [
        {
            "id": sample["doc"]["id"],
            "logprobs": [float(logprob) for logprob, _ in sample["filtered_resps"]],
            "acc": int(sample["acc"]),
            "acc_norm": int(sample["acc_norm"]),
        }
        for sample in samples
    ]
    metrics = result["results"][TASK]
    return {"acc": metrics["acc,none"], "acc_norm": metrics["acc_norm,none"], "items": items}


def transformers_lm(node: Path, mark: bool) -> Any:
    """The checkpoint folder `node` as lm-eval runs it, in fp32; with `mark` the document mark before each context."""
    from lm_eval.models.huggingface import HFLM

    from journey.model import adapter, huggingface

    place = device(4 * huggingface.load_config(node, as_quantized=True).n_params)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    where: dict[str, Any] = {"pretrained": str(node)}
    # Of an adapter it would look for the base at one path alone.
    if adapter.is_adapter(node) or huggingface.is_quantized(node):
        merged = huggingface.in_transformers(node).eval().to(place)
        where = {"pretrained": merged, "tokenizer": str(adapter.holding(node, "tokenizer.json"))}
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        return HFLM(**where, device=place, dtype="float32", batch_size=32, add_bos_token=mark)
