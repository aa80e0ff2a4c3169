"""A model and its loss as one compiled function, where this machine can build what torch.compile writes."""

import importlib.util
import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor

from journey.model.gpt import GPT, document_blocks


def missing(device: str) -> str | None:
    """What torch.compile lacks here, to be read after "not compiled: "; None where nothing is.

    A GPU's kernels need Triton, and Triton a C compiler for what launches them.
    """
    compiler = ("c++", os.environ.get("CXX", "g++")) if device == "cpu" else ("cc", os.environ.get("CC", "gcc"))
    if not any(shutil.which(name) for name in (*compiler, "clang")):
        return "there is no C++ compiler: install g++" if device == "cpu" else "there is no C compiler: install gcc"
    if device != "cpu" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return None


def seconds(model: GPT) -> float:
    """What compiling costs, roughly: half a minute for the four blocks of the pocket model on two cores.

    Blocks are compiled one by one, equal as they are. torch keeps what it built: the second time it is a part of that.
    """
    return 5 + 6 * model.config.n_layer


def compiled(model: GPT, say: Callable[[str], None]) -> Callable[..., Tensor]:
    """`model` for training, compiled at the first call: (ids, targets, documents=…) -> the loss.

    For rows of one shape: another shape is compiled anew. Where compiling fails, `say` gets one line and everything is
    computed as without; what fails after a first success is raised.
    """
    fast = torch.compile(model, dynamic=False)
    works: bool | None = None

    def loss(ids: Tensor, targets: Tensor, *, documents: Tensor | None = None) -> Tensor:
        nonlocal works
        if works is not False:
            # On a CPU what torch.compile makes of blocks knows no way back.
            blocks = document_blocks(documents) if documents is not None and ids.device.type == "cuda" else None
            try:
                value = fast(ids, targets, documents=documents, blocks=blocks)
                works = True
                return value
            except torch.OutOfMemoryError:  # the batch is too large, and would be without
                raise
            except Exception as error:
                if works:
                    raise
                works = False
                # What a compiler says can fill a screen; its first line says what went wrong.
                reason = str(error).strip().partition("\n")[0]
                say(f"not compiled, going on without: {type(error).__name__}: {reason:.200}")
        return model(ids, targets, documents=documents)

    return loss
