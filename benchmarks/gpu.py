"""What a GPU is needed for, a part at a time: `benchmarks/gpu.sh` runs them all.

    [NANOGPT=path] [JOURNEY_DATA=…] python benchmarks/gpu.py PART [--dry]      (model-tests, speed, qlora …: see PARTS)

Each part ends with one line of JSON, {"part", "device", …}; one that fails has "failed" in it. --dry makes all tiny and
runs on a CPU as well, to test the script: its numbers mean nothing.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import journey  # noqa: F401  (before torch, as everywhere: it says how torch's threads wait)

# isort: split
import torch
import torch.nn.functional as F

from journey.model.compiled import compiled, missing
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.model.loss import linear_cross_entropy
from journey.model.precision import precision
from journey.train.optimizers import make_optimizers

sys.path.insert(0, str(Path(__file__).parent))
import nanogpt

ROOT = Path(__file__).parent.parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Dense bf16 products, FLOP/s, of a card whose name has this in it: the makers' sheets, the first that fits.
PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12}
PEAKS |= {"L40S": 362e12, "L4": 121e12, "4090": 165e12, "3090": 71e12, "A10": 125e12}

BOOKS = 120  # seconds that the part may take; benchmarks/gpu.sh gives it ten more


def wait() -> None:
    """Until the device has done what it was told."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(step: Callable[[], object], times: int) -> float:
    """Seconds of one of some steps."""
    wait()
    start = time.perf_counter()
    for _ in range(times):
        step()
    wait()
    return (time.perf_counter() - start) / times


def in_turn(steps: dict[str, Callable[[], object]], times: int, rounds: int) -> dict[str, float]:
    """Median seconds of each, after a warm-up."""
    for step in steps.values():
        seconds(step, 2)
    found = [{name: seconds(step, times) for name, step in steps.items()} for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in found) for name in steps}


def peak_memory(step: Callable[[], object]) -> int | None:
    """Bytes that a step needs beyond what is there before it."""
    if DEVICE != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    wait()
    return torch.cuda.max_memory_allocated() - before


def tests(file: str, dry: bool, *more: str) -> dict[str, Any]:
    """A file of tests; what failed is named."""
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider"]
    command += ["-q", "-rf", "-m", "gpu and not slow" if dry else "gpu", *more, str(ROOT / "tests" / "gpu" / file)]
    environment = os.environ | ({"JOURNEY_DRY": "1"} if dry else {})
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    print(done.stdout, done.stderr, file=sys.stderr)
    lines = done.stdout.strip().splitlines() or [done.stderr[-300:]]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    result: dict[str, Any] = {"summary": lines[-1], "which": failed}
    return result | ({"failed": f"pytest ended with {done.returncode}"} if done.returncode else {})


def speed(dry: bool) -> dict[str, Any]:
    """GPT-2 124M in bf16, tokens/s and MFU: ours, documents apart and not, against nanoGPT's loop, in turn."""
    V, T, n_layer, n_embd, heads, B = (512, 64, 2, 64, 2, 2) if dry else (50304, 1024, 12, 768, 12, 32)
    ids = torch.randint(1, V, (B, T + 1), device=DEVICE)
    ids[:, :-1][torch.rand(B, T, device=DEVICE) < 1 / 500] = 0  # a document begins: web pages are some 500 tokens
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    can_compile = not dry and missing(DEVICE) is None
    said: list[str] = []

    def ours(documents: torch.Tensor | None) -> Callable[[], None]:
        model = GPT(GPTConfig.make("gpt2", V, T, n_layer, n_embd, heads)).to(DEVICE)
        optimizers = make_optimizers(model, "adamw", 6e-4, 0.0, 0.1)
        loss_of = compiled(model, said.append) if can_compile else model

        def step() -> None:
            with precision(model, "bf16"):
                loss = loss_of(inputs, targets, documents=documents)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizers.step()

        return step

    def theirs() -> Callable[[], None]:
        model = nanogpt.make(nanogpt.find(), V, T, n_layer, heads, n_embd).to(DEVICE)
        optimizer = nanogpt.optimizer(model, 6e-4, DEVICE)
        forward = torch.compile(model) if can_compile else model

        def step() -> None:
            with torch.autocast(DEVICE, torch.bfloat16):
                loss = forward(inputs, targets)[1]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), nanogpt.CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    steps = {"ours": ours(None), "ours, documents apart": ours((inputs == 0).cumsum(1))}
    if "NANOGPT" in os.environ:
        steps["nanogpt"] = theirs()
    built = {name: seconds(step, 1) for name, step in steps.items()}  # compiling is most of it
    found = in_turn(steps, *((1, 1) if dry else (10, 3)))
    flops = GPTConfig.make("gpt2", V, T, n_layer, n_embd, heads).flops_per_token(T)
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else ""
    peak = next((peak for card, peak in PEAKS.items() if card in name), None)
    result: dict[str, Any] = {"compiled": can_compile, "said": said, "B": B, "T": T, "flops_per_token": flops}
    result |= {"peak_flops": peak, "first_step_seconds": {name: round(value, 1) for name, value in built.items()}}
    result["tokens_per_second"] = {name: round(B * T / value) for name, value in found.items()}
    result["mfu"] = {name: peak and round(B * T / value * flops / peak, 4) for name, value in found.items()}
    result["memory"] = {name: peak_memory(step) for name, step in steps.items()}
    if "nanogpt" in found:
        result["ratio"] = {name: round(found["nanogpt"] / value, 3) for name, value in found.items()}
    return result


def logits(dry: bool) -> dict[str, Any]:
    """Head and loss of GPT-2 124M's batch, forward and backward: memory and time, ours against all logits at once."""
    N, C, V = (512, 64, 1000) if dry else (32 * 1024, 768, 50304)
    x = torch.randn(N, C, device=DEVICE, requires_grad=True)
    weight = (torch.randn(V, C, device=DEVICE) * 0.02).requires_grad_()
    targets = torch.randint(V, (N,), device=DEVICE)

    def run(loss_of: Callable[..., torch.Tensor]) -> Callable[[], None]:
        def step() -> None:
            x.grad = weight.grad = None
            with torch.autocast(DEVICE, torch.bfloat16):
                loss = loss_of(x, weight, targets)
            loss.backward()

        return step

    steps = {"ours": run(linear_cross_entropy), "plain": run(lambda x, w, t: F.cross_entropy(F.linear(x, w), t))}
    found = in_turn(steps, *((1, 1) if dry else (10, 3)))
    memory = {name: peak_memory(step) for name, step in steps.items()}
    result: dict[str, Any] = {"seconds": found, "time_ratio": round(found["ours"] / found["plain"], 3)}
    result |= {"memory": memory, "N": N, "C": C, "V": V}
    if memory["ours"] and memory["plain"]:
        result["memory_ratio"] = round(memory["ours"] / memory["plain"], 3)
    return result


def muon(dry: bool) -> dict[str, Any]:
    """A step of ours against one of torch.optim.Muon, over the matrices of GPT-2 124M."""
    model = GPT(GPTConfig.make("gpt2", 512, 64, *((2, 64, 2) if dry else (12, 768, 12)))).to(DEVICE)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    ours = make_optimizers(model, "muon", 1e-3, 1e-3, 0.0, torch.bfloat16).all[1]
    theirs = torch.optim.Muon(model.matrices(), lr=1e-3, weight_decay=0.0)
    found = in_turn({"ours": ours.step, "torch": theirs.step}, *((1, 1) if dry else (5, 3)))
    return {"seconds": found, "ratio": round(found["torch"] / found["ours"], 2), "matrices": len(model.matrices())}


def qlora(dry: bool) -> dict[str, Any]:
    """A random model of Llama 3.1 8B's shape in NF4, adapted for 20 steps of 8 x 512 tokens: memory, against what the
    plan says, and seconds of a step. Its matrices are views of one buffer, so that the host never holds 16 GB."""
    import dataclasses

    from peft import get_peft_model
    from transformers import AutoConfig, LlamaForCausalLM

    from journey.model import huggingface
    from journey.model.sizes import llama_31_8b
    from journey.train import memory
    from journey.train.lora import Adapter, in_nf4, peft_config
    from journey.train.trl import answer_nats

    shape, B, T, steps, marks = llama_31_8b(), 8, 512, 20, list(range(100, 114))
    if dry:
        tiny = dataclasses.replace(shape, vocab_size=512, n_layer=2, n_head=4, n_kv_head=2, head_dim=16)
        shape, T, steps = dataclasses.replace(tiny, n_embd=64, n_inner=224), 32, 3
    adapter = Adapter(quantize="nf4", rank=64, alpha=16)
    sizes = huggingface.shapes(shape)
    buffer = torch.randn(max(size.numel() for size in sizes.values())).mul_(0.02).bfloat16()
    random = {
        name: buffer[: size.numel()].view(size) if len(size) == 2 else torch.ones(size) for name, size in sizes.items()
    }
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(huggingface.config_json(shape, 0, 1, 2)))
        base = in_nf4(LlamaForCausalLM, None, config=AutoConfig.from_pretrained(folder), state_dict=random)
        model = get_peft_model(base, peft_config(adapter, Path(folder), marks)).train()
    for parameter in (trained := [p for p in model.parameters() if p.requires_grad]):
        parameter.data = parameter.data.float()
    wait()
    result: dict[str, Any] = {"parameters": shape.n_params, "quantized_in": round(time.perf_counter() - start, 1)}

    def plan(rows: int) -> float:
        return sum(line.bytes for line in memory.adapting(shape, adapter, rows, T, len(marks)))

    rows = B
    if DEVICE == "cuda":
        there = torch.cuda.get_device_properties(0).total_memory
        rows = next((n for n in (8, 4, 2) if plan(n) <= (1 - memory.FREE) * there), 1)
        torch.cuda.reset_peak_memory_stats()
    optimizer = torch.optim.AdamW(trained, lr=2e-4)
    ids, every = torch.randint(shape.vocab_size, (B, T), device=DEVICE), torch.ones(rows, T - 1, dtype=torch.bool)
    took, losses = [], []
    for _ in range(steps):
        begun, loss = time.perf_counter(), 0.0
        for part in ids.split(rows):
            nats = answer_nats(model, part, every.to(DEVICE), "mean") * (rows / B)
            nats.backward()
            loss += nats.item()
        torch.nn.utils.clip_grad_norm_(trained, 0.3)
        optimizer.step()
        optimizer.zero_grad()
        wait()
        took.append(time.perf_counter() - begun)
        losses.append(round(loss, 4))
    if not losses[-1] < losses[0]:
        result["failed"] = "the loss of the same rows did not fall"
    second = statistics.median(took[1:])
    result |= {"rows_at_a_time": rows, "seconds_per_step": round(second, 4), "tokens_per_second": round(B * T / second)}
    result |= {"losses": [losses[0], losses[-1]], "trained": sum(p.numel() for p in trained), "plan": round(plan(rows))}
    if DEVICE == "cuda":
        result["memory"] = torch.cuda.max_memory_allocated()
        result["memory_by_plan"] = round(result["memory"] / result["plan"], 3)
    return result


def inference(dry: bool) -> dict[str, Any]:
    """Decoding GPT-2 124M with random weights in bf16: one text, ours against transformers' generate; 256 texts,
    against what reading weights, keys and values takes at the measured bandwidth."""
    from transformers import AutoModelForCausalLM

    from journey.infer.engine import Engine, cache_bytes_per_token, enough
    from journey.infer.sequence import Request
    from journey.model import huggingface

    shape, new, many = ((2, 64, 2), 8, 4) if dry else ((12, 768, 12), 128, 256)
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("gpt2", 50257, 1024, *shape))
    with tempfile.TemporaryDirectory() as folder:
        huggingface.save(model, Path(folder), bos=1, eos=None, pad=0)
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(DEVICE)
    model = model.to(DEVICE)
    prompt = list(range(100, 116))
    row = torch.tensor([prompt], device=DEVICE)
    greedy = {"do_sample": False, "max_new_tokens": new, "min_new_tokens": new, "pad_token_id": 0}

    def engine(texts: int) -> Engine:
        return Engine(model, n_blocks=enough(model, 16 + new, texts), sequences=texts, tokens=16 * texts)

    def write(by: Engine, texts: int) -> Callable[[], None]:
        requests = [Request(prompt=[*prompt[:-1], 200 + i], max_new_tokens=new) for i in range(texts)]

        def step() -> None:
            by.generate(requests)

        return step

    steps = {
        "ours": write(engine(1), 1),
        "transformers": lambda: theirs.generate(row, attention_mask=torch.ones_like(row), **greedy),
        "ours, many": write(engine(many), many),
    }
    found = in_turn(steps, *((1, 1) if dry else (2, 3)))
    big = torch.empty(1 << (20 if dry else 31), dtype=torch.uint8, device=DEVICE)
    bandwidth = 2 * big.numel() / seconds(lambda: big.add_(1), 3)  # read and written
    weights = 2 * sum(p.numel() for p in model.parameters())
    kept = cache_bytes_per_token(model) / 2  # in bf16
    least = (weights + many * kept * (16 + new / 2)) / bandwidth  # seconds of a step
    return {
        "seconds": found,
        "tokens_per_second": {"ours": new / found["ours"], "transformers": new / found["transformers"]},
        "ratio": round(found["transformers"] / found["ours"], 2),
        "many": many,
        "many_tokens_per_second": many * new / found["ours, many"],
        "bandwidth": bandwidth,
        "share_of_the_roofline": round(least * new / found["ours, many"], 3),
    }


def books(dry: bool) -> dict[str, Any]:
    """recipes/books-30m.yaml, of half its text: dev loss against seconds, AdamW and Muon, as far as the time goes."""
    from journey.measures import MEASURES

    end = time.monotonic() + BOOKS
    source = Path(os.environ.get("JOURNEY_DATA", "")) / "text" / "books"
    settings = [f"stages.docs.source={source if source.is_dir() else 'installed-docs'}"]
    settings.append("stages.docs.max_bytes=30000000")
    if dry:
        small = {"n_layer": 1, "n_embd": 32, "n_ctx": 64, "tokens": 4096, "batch_size": 8, "evaluations": 2}
        small["dev_documents"] = 2
        settings = [f"stages.docs.source={ROOT / 'docs'}", "stages.tokenizer.vocab_size=400"]
        settings += [f"stages.{name}.{key}={value}" for name in ("adamw", "muon") for key, value in small.items()]
    settings += [f"measure.{name}=false" for name in MEASURES]  # the minutes are for training
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "journey", "run", str(ROOT / "recipes" / "books-30m.yaml")]
        command += ["--workspace", place, *(word for setting in settings for word in ("--set", setting))]
        for name in ("adamw", "muon"):
            until = [*command, "--until", name]
            try:
                left = max(1.0, end - time.monotonic())
                subprocess.run(until, stdout=sys.stderr, cwd=ROOT, timeout=left, check=True)
            except subprocess.SubprocessError as error:  # what is there already is worth its line
                return result | {"failed": f"{name}: journey run: {type(error).__name__} within {BOOKS} s"}
            (node,) = (Path(place) / "nodes").glob(f"{name}-*")
            history = json.loads((node / "history.json").read_text())
            took = json.loads((node / "lineage.json").read_text())["seconds"]
            result[name] = {
                "seconds": round(took, 1),
                "tokens_per_second": round(history[-1]["tokens"] / took),
                "final_loss": round(statistics.fmean(line["loss"] for line in history[-20:]), 4),
                # Evaluations are spread evenly, so a share of the steps is a share of the seconds, roughly.
                "dev_bits_per_byte_at_second": {
                    round(took * line["step"] / len(history), 1): round(line["dev_bits_per_byte"], 4)
                    for line in history
                    if "dev_bits_per_byte" in line
                },
            }
    return result


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "model-tests": lambda dry: tests("test_gpu_model.py", dry, "--noconftest"),
    "speed": speed,
    "logits": logits,
    "muon": muon,
    "qlora": qlora,
    "inference": inference,
    "books": books,
    "stage-tests": lambda dry: tests("test_gpu_stages.py", dry),
}


def main() -> int:
    """One part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--dry", action="store_true")
    args = parser.parse_args()
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    result: dict[str, Any] = {"part": args.part, "device": device, "torch": torch.__version__, "dry": args.dry}
    start = time.monotonic()
    try:
        if DEVICE != "cuda" and not args.dry:
            raise RuntimeError("there is no CUDA device: --dry tries the script without")
        result |= PARTS[args.part](args.dry)
    except (Exception, SystemExit) as error:  # the other parts are worth their minutes all the same
        result["failed"] = f"{type(error).__name__}: {error}"[:500]
    print(json.dumps(result | {"took": math.ceil(time.monotonic() - start)}))
    return 1 if "failed" in result else 0


if __name__ == "__main__":
    sys.exit(main())
