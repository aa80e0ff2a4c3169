"""A GGUF file run by llama.cpp itself: the C library inside the wheel `xllamacpp`, called through ctypes.

The wheel's own Python classes give texts; only the C functions give ids and the logits of every position.
"""

import ctypes
import functools
import importlib.metadata
import importlib.util
import weakref
from collections.abc import Iterator, Sequence
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int8,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint32,
    c_void_p,
)
from pathlib import Path
from typing import Any

import numpy as np
import torch

from journey.errors import JourneyError

_F32, _F16 = 0, 1  # ggml_type
_ERROR = 4  # ggml_log_level
_BATCH = 512  # tokens a call at most: the logits of more would take memory and no less time
_LOG = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


class _ModelParams(Structure):
    """`llama_model_params` of llama.h, as far as the flags; `spare` in case a later one is longer."""

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_uint8),
        ("check_tensors", c_uint8),
        ("use_extra_bufts", c_uint8),
        ("no_host", c_uint8),
        ("no_alloc", c_uint8),
        ("load_mtp", c_uint8),
        ("spare", c_uint8 * 64),
    )


class _ContextParams(Structure):
    """`llama_context_params` of llama.h."""

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("callbacks", c_void_p * 3),
        ("embeddings", c_uint8),
        ("offload_kqv", c_uint8),
        ("no_perf", c_uint8),
        ("op_offload", c_uint8),
        ("swa_full", c_uint8),
        ("kv_unified", c_uint8),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
        ("spare", c_uint8 * 64),
    )


class _Batch(Structure):
    """`llama_batch` of llama.h."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


# What the library sets by default. The structs are not the same in every version; these values in these places are
# how a version with another layout is noticed before it is given a wrong number.
_DEFAULTS: dict[type[Structure], dict[str, float]] = {
    _ModelParams: {"n_gpu_layers": -1, "split_mode": 1, "main_gpu": 0, "vocab_only": 0, "use_extra_bufts": 1},
    _ContextParams: {
        **{"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1},
        **dict.fromkeys(("rope_scaling_type", "pooling_type", "attention_type", "flash_attn_type"), -1),
        **dict.fromkeys(("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"), -1.0),
        **{"type_k": _F16, "type_v": _F16, "embeddings": 0, "offload_kqv": 1, "op_offload": 1, "n_samplers": 0},
    },
}

# Name -> result, arguments.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [_LOG, c_void_p]),
    "llama_model_default_params": (_ModelParams, []),
    "llama_context_default_params": (_ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, _ModelParams]),
    "llama_init_from_model": (c_void_p, [c_void_p, _ContextParams]),
    "llama_adapter_lora_init": (c_void_p, [c_void_p, c_char_p]),
    "llama_set_adapters_lora": (c_int32, [c_void_p, POINTER(c_void_p), c_size_t, POINTER(c_float)]),
    "llama_free": (None, [c_void_p]),
    "llama_model_free": (None, [c_void_p]),
    "llama_n_threads": (c_int32, [c_void_p]),
    "llama_model_n_ctx_train": (c_int32, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_decode": (c_int32, [c_void_p, _Batch]),
    "llama_get_logits": (POINTER(c_float), [c_void_p]),
    "ggml_quantize_chunk": (c_size_t, [c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p]),
    "ggml_validate_row_data": (c_bool, [c_int32, c_void_p, c_size_t]),
    "llama_model_meta_count": (c_int32, [c_void_p]),
    "llama_model_meta_key_by_index": (c_int32, [c_void_p, c_int32, c_char_p, c_size_t]),
    "llama_model_meta_val_str_by_index": (c_int32, [c_void_p, c_int32, c_char_p, c_size_t]),
}
_errors: list[str] = []  # what llama.cpp has logged as errors since the last call that could fail


@_LOG
def _keep_errors(level: int, text: bytes, _: Any) -> None:
    if level == _ERROR:
        _errors.append(text.decode(errors="replace").strip())


@functools.cache
def library() -> Any:
    """The C library, quiet. JourneyError where xllamacpp is missing or its structs are not those written here."""
    spec = importlib.util.find_spec("xllamacpp")
    files = sorted(Path(spec.origin).parent.glob("xllamacpp*.so")) if spec and spec.origin else []
    if not files:
        raise JourneyError("llama.cpp is not installed: pip install xllamacpp")
    lib = ctypes.CDLL(str(files[0]))
    for name, (result, arguments) in _FUNCTIONS.items():
        if not hasattr(lib, name):
            raise JourneyError(f"{version()} has no function {name}: install the version in constraints.txt")
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    check_layout(lib.llama_model_default_params())
    check_layout(lib.llama_context_default_params())
    lib.llama_backend_init()
    return lib


def check_layout(defaults: Structure) -> None:
    """Raises JourneyError unless a struct of default settings holds llama.cpp's defaults where we look for them."""
    for name, value in _DEFAULTS[type(defaults)].items():
        if getattr(defaults, name) != value:
            raise JourneyError(
                f"{version()} lays out its settings in another way ({name} is {getattr(defaults, name)}, expected "
                f"{value}): install the version in constraints.txt"
            )


def version() -> str:
    """Which llama.cpp this is: the wheel and its version."""
    return f"xllamacpp {importlib.metadata.version('xllamacpp')}"


class LlamaCpp:
    """A GGUF file, open in llama.cpp with sequences of at most n_ctx tokens each (none: as many as it was trained for).

    `exact` keeps keys and values in f32 and computes attention without the flash kernel; otherwise llama.cpp's own
    defaults, f16 and that kernel. `lora` is the file of an adapter to compute with, as its server's
    `--lora`. It uses as many threads as torch. Closing it frees its memory.
    """

    def __init__(
        self, path: Path, n_ctx: int = 0, *, exact: bool = False, lora: Path | None = None, sequences: int = 1
    ) -> None:
        """JourneyError for a file that is missing, damaged, or too large for the memory, and for an adapter of another
        model."""
        self._lib = lib = library()
        model = _load(lib, path, check_tensors=True)
        longest = lib.llama_model_n_ctx_train(model)
        self.n_ctx = min(n_ctx or longest, longest)  # gpt2 has no position beyond: llama.cpp would abort the process
        settings = lib.llama_context_default_params()
        self.sequences = sequences
        settings.n_ctx, settings.n_seq_max = self.n_ctx * sequences, sequences
        settings.n_batch = settings.n_ubatch = _BATCH
        settings.n_outputs_max_per_seq = _BATCH
        settings.n_threads = settings.n_threads_batch = torch.get_num_threads()
        if exact:
            settings.type_k = settings.type_v = _F32
            settings.flash_attn_type = 0
        context = lib.llama_init_from_model(model, settings)
        if not context:
            lib.llama_model_free(model)
            raise JourneyError(f"llama.cpp cannot run {path} ({_cause()}): ask for a shorter context")
        self._model, self._context = c_void_p(model), c_void_p(context)
        self._free = weakref.finalize(self, _free, lib, model, context)
        if lib.llama_n_threads(context) != settings.n_threads:
            raise JourneyError(f"{version()} does not take its settings: install the version in constraints.txt")
        if lora is not None:
            self._adapt(lora)
        self._vocab = c_void_p(lib.llama_model_get_vocab(model))
        self.vocab_size: int = lib.llama_vocab_n_tokens(self._vocab)

    def __enter__(self) -> "LlamaCpp":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model. Nothing else may be called after it."""
        self._free()

    @functools.cached_property
    def metadata(self) -> dict[str, str]:
        """The file's metadata as llama.cpp reads it (arrays are shortened)."""
        lib, model = self._lib, self._model
        key, value = lib.llama_model_meta_key_by_index, lib.llama_model_meta_val_str_by_index
        return {_text(key, model, i): _text(value, model, i) for i in range(lib.llama_model_meta_count(model))}

    def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        """The ids of a text, nothing added; with `parse_special` the spelling of a special token is that token."""
        return _tokenize(self._lib, self._vocab, text, parse_special)

    def ends(self, token: int) -> bool:
        """Whether generation stops at this token."""
        return self._lib.llama_vocab_is_eog(self._vocab, token)

    def logits(self, ids: Sequence[int], first: int = 0) -> np.ndarray:
        """Logits of the positions from `first` on of a sequence of T ids: float32 (T - first, V).

        JourneyError for no ids, for more than n_ctx, and for one that is not in the vocabulary.
        """
        self._begin(ids)
        return self._read([(0, i, token) for i, token in enumerate(ids)], [i >= first for i in range(len(ids))])

    def greedy(self, prompt: Sequence[int]) -> Iterator[int]:
        """The likeliest next id, again and again, until the context is full."""
        return (token for (token,) in self.greedy_together([prompt]))

    def greedy_together(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """The likeliest next id of each of several prompts, again and again, until one of them fills the context."""
        if len(prompts) > self.sequences:
            raise JourneyError(f"{len(prompts)} texts at once, but it was opened for {self.sequences}")
        for prompt in prompts:
            self._begin(prompt)
        read = [(row, i, token) for row, prompt in enumerate(prompts) for i, token in enumerate(prompt)]
        wanted = [i == len(prompts[row]) - 1 for row, i, _ in read]
        for written in range(self.n_ctx - max(map(len, prompts))):
            yield (tokens := self._read(read, wanted).argmax(-1).tolist())
            read = [(row, len(prompts[row]) + written, token) for row, token in enumerate(tokens)]
            wanted = [True] * len(tokens)

    def _adapt(self, lora: Path) -> None:
        _check_magic(lora)
        _errors.clear()
        adapter = self._lib.llama_adapter_lora_init(self._model, str(lora).encode())  # which the model frees
        if not adapter or self._lib.llama_set_adapters_lora(
            self._context, (c_void_p * 1)(adapter), 1, (c_float * 1)(1)
        ):
            self.close()
            raise JourneyError(f"llama.cpp cannot put {lora} on this model ({_cause()}): is it of another base?")

    def _begin(self, ids: Sequence[int]) -> None:
        if not self._free.alive:
            raise ValueError("this model is closed")
        if not 0 < len(ids) <= self.n_ctx:
            raise JourneyError(f"a sequence of {len(ids)} tokens does not fit: the context takes 1 to {self.n_ctx}")
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), False)

    def _read(self, tokens: Sequence[tuple[int, int, int]], wanted: Sequence[bool]) -> np.ndarray:
        """Go on with tokens (each its sequence, position and id); the logits of the wanted ones, (wanted, V)."""
        parts = [slice(start, start + _BATCH) for start in range(0, len(tokens), _BATCH)]
        return np.concatenate([self._decode(tokens[part], wanted[part]) for part in parts])

    def _decode(self, tokens: Sequence[tuple[int, int, int]], wanted: Sequence[bool]) -> np.ndarray:
        n, n_wanted = len(tokens), sum(wanted)
        rows, positions, ids = zip(*tokens, strict=True)
        each = (POINTER(c_int32) * n)(*((c_int32 * 1)(row) for row in rows))  # type: ignore[misc]
        of_one, at = (c_int32 * n)(*[1] * n), (c_int32 * n)(*positions)
        _errors.clear()
        batch = _Batch(n, (c_int32 * n)(*ids), None, at, of_one, each, (c_int8 * n)(*wanted))
        if code := self._lib.llama_decode(self._context, batch):
            raise JourneyError(f"llama.cpp could not read {n} tokens (code {code}: {_cause()})")
        if not n_wanted:
            return np.zeros((0, self.vocab_size), np.float32)
        return np.ctypeslib.as_array(self._lib.llama_get_logits(self._context), (n_wanted, self.vocab_size)).copy()


def ids_of(path: Path, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts, nothing added, by the tokenizer in a GGUF file, whose weights stay on the disk.

    JourneyError for a file that is missing or damaged.
    """
    lib = library()
    model = _load(lib, path, vocab_only=True)
    try:
        vocab = c_void_p(lib.llama_model_get_vocab(model))
        return [_tokenize(lib, vocab, text, parse_special=False) for text in texts]
    finally:
        lib.llama_model_free(model)


def _load(lib: Any, path: Path, **settings: bool) -> int:
    _check_magic(path)
    lib.llama_log_set(_keep_errors, None)  # each time: xllamacpp's own server in the same process sets another
    _errors.clear()
    params = lib.llama_model_default_params()
    for name, value in settings.items():
        setattr(params, name, value)
    model: int | None = lib.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise JourneyError(f"llama.cpp cannot load {path} ({_cause()}): it is damaged, make it again")
    return model


def _tokenize(lib: Any, vocab: c_void_p, text: str, parse_special: bool) -> list[int]:
    data = text.encode()
    room = len(data) + 1  # no token is less than a byte
    ids = (c_int32 * room)()
    n = lib.llama_tokenize(vocab, data, len(data), ids, room, False, parse_special)
    return ids[:n]


def _free(lib: Any, model: int, context: int) -> None:
    lib.llama_free(context)
    lib.llama_model_free(model)


def _check_magic(path: Path) -> None:
    if not path.is_file():
        raise JourneyError(f"{path} does not exist: name a GGUF file")
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            raise JourneyError(f"{path} is no GGUF file")


def _text(function: Any, model: c_void_p, i: int) -> str:
    """What one of the functions that fill a buffer says; asked with none, they say how long it is."""
    length = function(model, i, None, 0)
    buffer = ctypes.create_string_buffer(length + 1)
    function(model, i, buffer, length + 1)
    return buffer.value.decode(errors="replace")


def _cause() -> str:
    """The first error that llama.cpp has logged: the later ones only say that it gave up."""
    return _errors[0].rpartition("error loading model: ")[2] if _errors else "it does not say why"
