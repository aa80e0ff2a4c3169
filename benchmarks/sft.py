"""Whole fine-tunings by our defaults and by TRL's: useful tokens/s on the same model and conversations, and the loss.

    python benchmarks/sft.py [--shape pocket|124m] [--data FILE] [--conversations N] [--rounds 2]

Both train one epoch from the same weights with the same rate, schedule, batch and answers, in fp32 and without
checkpointing of activations, which would cost TRL more on a CPU; each in its own order. A useful token is one of a
conversation: padding is none. A third training is TRL's in our order and by our schedule: there both do the same at
each step, so that the losses must agree, and what is left of the ratio is the head. A fourth is ours with `packing`. In
turn, `--rounds` times; the last line is JSON.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
import torch

from journey.data import vocabularies
from journey.data.conversations import load
from journey.lineage import surroundings
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.stages.run import Run
from journey.stages.sft import SFT, Row, encode, summed_nats, trainer_of
from journey.tokenizer import bpe
from journey.tokenizer.formats import Tokenizer
from journey.train.trl import Shell, order, quiet

SHAPES = {  # family, n_ctx, n_layer, n_embd, conversations
    "pocket": ("qwen3", 256, 4, 128, 800),
    "124m": ("gpt2", 512, 12, 768, 24),
}
DEV = 32


def main() -> None:
    """Train in turn and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="pocket")
    parser.add_argument(
        "--data", default=os.path.join(os.environ.get("JOURNEY_DATA", ""), "instruct/dolly-15k.jsonl.gz")
    )
    parser.add_argument("--conversations", type=int)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    family, T, n_layer, n_embd, n = SHAPES[asked.shape]
    n = asked.conversations or n
    conversations, _ = load(asked.data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = made(asked.shape, conversations)
        torch.manual_seed(0)
        model = GPT(GPTConfig.make(family, tokenizer.n_ids, T, n_layer=n_layer, n_embd=n_embd))
        ids = {"bos": tokenizer.bos, "eos": tokenizer.eos, "pad": tokenizer.pad}
        huggingface.save(model, folder / "model", **ids)
        tokenizer.save(folder / "model")
        rows = encode(conversations[: 2 * n + DEV], tokenizer, T, Run(folder / "none"))
        train, dev = rows[DEV : n + DEV], rows[:DEV]
        config, _ = SFT(evaluations=1).fitting(model.config.n_params, len(train), max(row.tokens for row in train))
        sides = {
            "ours": lambda: ours(folder, train, dev, config, tokenizer, T),
            "ours, packed": lambda: ours(folder, train, dev, dataclasses.replace(config, packing=True), tokenizer, T),
            "TRL": lambda: theirs(folder, train, dev, config, False),
            "TRL in our order": lambda: theirs(folder, train, dev, config, True),
        }
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(asked.rounds):
            for side, run in sides.items():
                found[side].append(run())
    useful = sum(row.tokens for row in train)
    machine = surroundings()["machine"]
    print(f"{machine['cpu']}, {os.cpu_count()} cores, torch {torch.__version__}, fp32; {asked.shape}: "
          f"{model.config.n_params:,} parameters, {len(train)} conversations, {useful:,} tokens, "
          f"{sum(row.trained for row in train):,} trained, {config.batch_size} a step, lr {config.lr:g}")  # fmt: skip
    for side, runs in found.items():
        rates = ", ".join(f"{useful / seconds:,.0f}" for seconds, _ in runs)
        print(f"{side:<18} {rates} useful tokens/s   loss after {runs[0][1]:.4f}")
    ratios = {side: statistics.median(b[0] / a[0] for a, b in zip(found["ours"], found[side], strict=True))
              for side in ("TRL", "TRL in our order", "ours, packed")}  # fmt: skip
    apart = abs(found["ours"][0][1] - found["TRL in our order"][0][1])
    same = ratios["TRL in our order"]
    print(f"ours / TRL's: {ratios['TRL']:.2f}; in the same order {same:.2f}, losses {apart:.5f} apart")
    print(f"padded / packed: {ratios['ours, packed']:.2f}")
    said = {"shape": asked.shape, "ratios": ratios, "losses_apart": apart, "found": found, "machine": machine}
    print(json.dumps(said))


def made(shape: str, conversations: Any) -> Tokenizer:
    """GPT-2's tokenizer; for a pocket model one of 4,096 entries."""
    if shape == "124m":
        return vocabularies.find(None)[0].with_chat_tokens()
    texts = [message["content"] for messages in conversations[:4000] for message in messages]
    return Tokenizer.from_merges(bpe.train(bpe.count_words(texts, "gpt2"), 4096 - 256 - 8, 1))


def ours(
    folder: Path, train: list[Row], dev: list[Row], config: SFT, tokenizer: Tokenizer, T: int
) -> tuple[float, float]:
    """Seconds of our training, and the dev loss after it."""
    run = Run(folder / f"ours-{time.monotonic_ns()}")
    run._begin("0" * 64)
    trainer = trainer_of(folder / "model", train, dev, config, tokenizer, T, run)
    trainer.dev_numbers = lambda: {}  # what is timed is the training
    start = time.perf_counter()
    trainer.fit()
    return time.perf_counter() - start, loss(trainer.model, dev)


@quiet()
def theirs(folder: Path, train: list[Row], dev: list[Row], config: SFT, in_our_order: bool) -> tuple[float, float]:
    """The same of TRL's SFTTrainer as it comes."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    assert config.batch_size and config.accumulate and config.lr is not None
    places = order([row.tokens for row in train], config.batch_size, 1, 0) if in_our_order else range(len(train))
    arguments = trl.SFTConfig(
        output_dir=str(folder / "trl"),
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        activation_checkpointing=False,
        max_length=None,
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size // config.accumulate,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.lr,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=False,
        **({"train_sampling_strategy": "sequential"} if in_our_order else {}),
    )
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list([train[i]._asdict() for i in places]),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
    )
    trainer.remove_callback(PrinterCallback)
    if in_our_order:
        trainer.settings = config
        trainer.create_scheduler = types.MethodType(Shell.create_scheduler, trainer)
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start, loss(trainer.model, dev)


def loss(model: Any, dev: list[Row]) -> float:
    """Nats per answer token of the dev rows."""
    device, nats = next(model.parameters()).device, 0.0
    with torch.inference_mode():
        for row in dev:
            batch = {name: torch.tensor([ids], device=device) for name, ids in row._asdict().items()}
            nats += summed_nats(model.eval(), batch).item()
    return nats / sum(row.trained for row in dev)


if __name__ == "__main__":
    main()
