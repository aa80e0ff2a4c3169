"""A saved model of which somebody has changed something."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


def altered(saved: Path, into: Path, change: Mapping[str, Tensor | None]) -> Path:
    """A copy of a model's folder with other tensors of these names; None: without one."""
    shutil.copytree(saved, into, dirs_exist_ok=True)
    tensors = load_file(into / "model.safetensors") | change
    save_file({name: t for name, t in tensors.items() if t is not None}, into / "model.safetensors")
    return into
