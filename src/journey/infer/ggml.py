"""Matrices in ggml's blocks, packed by ggml itself: the bytes that llama.cpp's own quantizer writes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from journey.errors import JourneyError
from journey.infer.llamacpp import library


def pack(weights: np.ndarray, type: GGMLQuantizationType, importance: np.ndarray | None = None) -> np.ndarray:
    """Finite weights (out, in) in blocks of a type: uint8 (out, bytes of a row).

    `importance` (in,), positive, says what an error of each column's weights costs; Q8_0 takes none. As many threads as
    torch's. Raises JourneyError for weights too large for the scales of blocks.
    """
    lib = library()
    block, block_bytes = GGML_QUANT_SIZES[type]
    rows, columns = weights.shape
    if columns % block or (importance is not None and importance.shape != (columns,)):
        raise ValueError(f"rows of {columns} in blocks of {block}, or importance of another width")
    source = np.ascontiguousarray(weights, np.float32)
    counts = None if importance is None else np.ascontiguousarray(importance, np.float32)
    weighs = None if counts is None else counts.ctypes.data
    packed = np.zeros((rows, columns // block * block_bytes), np.uint8)
    at_once = -(-rows // torch.get_num_threads())

    def part(first: int) -> bool:
        n, start = min(at_once, rows - first), first * columns
        size = lib.ggml_quantize_chunk(type, source.ctypes.data, packed.ctypes.data, start, n, columns, weighs)
        made = packed[first : first + n]
        return size == made.nbytes and lib.ggml_validate_row_data(type, made.ctypes.data, made.nbytes)

    with ThreadPoolExecutor() as threads:  # ctypes lets go of Python's lock
        if not all(threads.map(part, range(0, rows, at_once))):
            raise JourneyError(f"{type.name.lower()} cannot hold these weights: some are too large")
    return packed
