"""nanoGPT (github.com/karpathy/nanoGPT) as it trains: its model, its optimizer's groups, its schedule.

No line of it stands here: NANOGPT names a checkout of it, or its model.py. Its settings are those of its train.py:
no biases, AdamW with betas (0.9, 0.95) and weight decay 0.1 on all matrices, embeddings too, gradients clipped at 1,
a cosine from the peak to a tenth of it. Its warm-up, 2,000 of 600,000 steps there and 100 of 5,000 in its
configuration for characters, is here a fiftieth of the steps.
"""

import contextlib
import importlib.util
import io
import math
import os
import sys
from pathlib import Path
from types import ModuleType

import torch

CLIP = 1.0


def find() -> ModuleType:
    """Its model.py, or one line on how to get it."""
    place = Path(os.environ.get("NANOGPT", ""))
    file = place / "model.py" if place.is_dir() else place
    if "NANOGPT" not in os.environ or not file.is_file():
        sys.exit("NANOGPT names no nanoGPT: git clone https://github.com/karpathy/nanoGPT, then NANOGPT=nanoGPT")
    spec = importlib.util.spec_from_file_location("nanogpt_model", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass asks there
    spec.loader.exec_module(module)
    return module


def make(module: ModuleType, V: int, T: int, n_layer: int, n_head: int, n_embd: int) -> torch.nn.Module:
    """Its model, freshly initialised."""
    config = module.GPTConfig(T, V, n_layer, n_head, n_embd, dropout=0.0, bias=False)
    with contextlib.redirect_stdout(io.StringIO()):
        return module.GPT(config)


def optimizer(model: torch.nn.Module, lr: float, device: str = "cpu") -> torch.optim.Optimizer:
    """Its AdamW."""
    with contextlib.redirect_stdout(io.StringIO()):
        return model.configure_optimizers(0.1, lr, (0.9, 0.95), device)


def share(step: int, steps: int) -> float:
    """Of the peak learning rate, at a step counted from 0."""
    warm = max(1, steps // 50)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
