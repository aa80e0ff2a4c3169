"""How large a step: settings of fine-tuning that follow from the model's size and from the data, each with its reason.

What a small model needs tears a large one apart: 2e-3, right for 1.4 M parameters, is some sixty times too much for
GPT-2. Between models that somebody tuned, the rate of AdamW is a straight line in logarithms of both; beyond the
largest and the smallest it stays.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Known(NamedTuple):
    """A rate that was found to be good."""

    parameters: float
    lr: float
    source: str


SFT = (  # 32 conversations a step
    Known(1.38e6, 4e-3, "measured"),
    Known(110e6, 3e-5, "Devlin et al. 2019"),
    Known(7e9, 1.4e-5, "Touvron et al. 2023"),  # 2e-5 with 64
)
LORA = (  # 32 conversations a step
    Known(1.38e6, 1e-2, "measured"),
    Known(355e6, 4e-4, "Hu et al. 2021"),  # 2e-4 with 8
    Known(7e9, 2.8e-4, "Dettmers et al. 2023"),  # 2e-4 with 16
)
DPO = (  # 16 pairs a step
    Known(1.38e6, 1e-4, "measured"),
    Known(774e6, 5e-7, "Rafailov et al. 2023"),  # 1e-6 with 64
    Known(7e9, 3.5e-7, "Tunstall et al. 2023"),  # 5e-7 with 32
)
# A tenth of what such a model is pre-trained with, of the smallest a fifth: enough to learn, and most of what it knows
# stays.
CONTINUE = (
    Known(1.38e6, 8e-4, "measured"),
    *(
        Known(n, lr / 10, "Brown et al. 2020")
        for n, lr in ((125e6, 6e-4), (350e6, 3e-4), (760e6, 2.5e-4), (1.3e9, 2e-4), (2.7e9, 1.6e-4), (6.7e9, 1.2e-4))
    ),
)
BESIDE_MUON = 3.75  # times that, where AdamW moves embeddings and norms alone (measured)
AT_ONCE = 8192  # tokens worked through at a time, for the memory of activations


def rate(known: Sequence[Known], n_params: int) -> tuple[float, str]:
    """The rate for a model of this size, and whose it is."""
    points = [(math.log(each.parameters), math.log(each.lr)) for each in known]
    x = min(max(math.log(n_params), points[0][0]), points[-1][0])
    i = next(i for i in range(1, len(points)) if x <= points[i][0])
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    between = known[i - 1 : i + 1] if x0 < x < x1 else known[i - 1 : i] if x == x0 else known[i : i + 1]
    return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0)), " and ".join(dict.fromkeys(e.source for e in between))


def sft(n_params: int, conversations: int, adapter: bool = False) -> tuple[float, str]:
    """AdamW's peak learning rate with so many conversations a step: it grows with the root of their number (Malladi et
    al. 2022, arXiv 2205.10287). And the line to say so."""
    lr, source = rate(LORA if adapter else SFT, n_params)
    how = [_by(adapter), f"{conversations} conversations a step"]
    return _said(lr * math.sqrt(conversations / 32), n_params, how, source)


def dpo(n_params: int, pairs: int, adapter: bool = False) -> tuple[float, str]:
    """The same, with so many pairs a step."""
    lr, source = rate(DPO, n_params)
    lr *= faster(n_params) if adapter else 1
    return _said(lr * math.sqrt(pairs / 16), n_params, [_by(adapter), f"{pairs} pairs a step"], source)


def continuing(n_params: int, optimizer: str, adapter: bool = False) -> tuple[float, str]:
    """The same, of a model that goes on with another text, by AdamW or beside Muon."""
    lr, source = rate(CONTINUE, n_params)
    if optimizer == "muon":
        return _said(BESIDE_MUON * lr, n_params, ["AdamW beside Muon"], source)
    return _said(lr * (faster(n_params) if adapter else 1), n_params, [_by(adapter)], source)


def faster(n_params: int) -> float:
    """How many times the rate of the whole model an adapter of it wants: of SFT, and taken to be so elsewhere."""
    return rate(LORA, n_params)[0] / rate(SFT, n_params)[0]


def _by(adapter: bool) -> str:
    return "AdamW on an adapter" if adapter else "AdamW"


def _said(lr: float, n_params: int, how: list[str], source: str) -> tuple[float, str]:
    value = float(f"{lr:.1e}")
    return value, f"lr {value:g}: {size(n_params)} parameters, {', '.join(how)} ({source})"


def tokens_a_step(tokens: int | float) -> float:
    """The batch, in tokens, of a training on so many (Li et al. 2025, arXiv 2503.04715, fitted with AdamW)."""
    return 0.58 * tokens**0.571


def rows_a_step(tokens: int | float, T: int) -> tuple[int, str]:
    """How many rows of T tokens that are, as a power of two. And the line to say so."""
    value = max(1, 2 ** round(math.log2(tokens_a_step(tokens) / T)))
    return value, f"batch_size {value}: {value * T:,} tokens a step, of {tokens:,} in all (Li et al. 2025)"


def conversations_a_step(n: int) -> tuple[int, str]:
    """How many of `n` conversations a step: 400 to 800 steps an epoch, as Alpaca (52,002 by 128), Llama 2 (27,540 by
    64) and Zephyr (207,865 by 512) have 400 to 430; from 8 to 128, a power of two. And the line to say so."""
    value = next((k for k in (128, 64, 32, 16) if n >= 400 * k), 8)
    return value, f"batch_size {value}: {n:,} conversations, {-(-n // value):,} steps an epoch"


def parts(batch_size: int, longest: int) -> int:
    """In how many equal parts a step is worked through, so that each has at most AT_ONCE tokens, or is one row."""
    fitting = (k for k in range(1, batch_size) if batch_size % k == 0 and batch_size // k * longest <= AT_ONCE)
    return next(fitting, batch_size)


def size(n_params: int) -> str:
    """124M, 1.3M, 8B: as models are called."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n_params >= unit:
            n = n_params / unit
            return f"{n:.0f}{letter}" if n >= 10 else f"{n:.1f}".removesuffix(".0") + letter
    return str(n_params)
