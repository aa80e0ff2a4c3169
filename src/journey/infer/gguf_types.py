"""The types of GGUF files, and which of ggml's types each tensor gets in them: llama.cpp's own rules, as its
`llama-quantize` follows them, so that a file holds what its name says everywhere.
"""

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from journey.model.config import GPTConfig

# How most matrices are stored, and what llama.cpp calls such a file; fewer bits come later.
TYPES = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q6_k": (GGMLQuantizationType.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    "q5_k_m": (GGMLQuantizationType.Q5_K, LlamaFileType.MOSTLY_Q5_K_M),
    "q5_0": (GGMLQuantizationType.Q5_0, LlamaFileType.MOSTLY_Q5_0),
    "q4_k_m": (GGMLQuantizationType.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
PLAIN = (GGMLQuantizationType.F32, GGMLQuantizationType.F16)  # numbers, not blocks of them
UNWEIGHED = (*PLAIN, GGMLQuantizationType.Q8_0)  # in whose rounding importance does not count
_MIXED = "q5_k_m", "q4_k_m"
# Blocks of K-quants are 256 wide. Where rows are not, these take their place, 32 wide; and where not even that, f16.
_NARROWER = {
    GGMLQuantizationType.Q6_K: GGMLQuantizationType.Q8_0,
    GGMLQuantizationType.Q5_K: GGMLQuantizationType.Q5_1,
    GGMLQuantizationType.Q4_K: GGMLQuantizationType.Q5_0,
}
# With an importance matrix the first layers' ffn_down get a smallest value a block beside the scale.
_WITH_MINIMUM = {"q5_0": GGMLQuantizationType.Q5_1, "q4_0": GGMLQuantizationType.Q4_1}


def fits(columns: int, stored: GGMLQuantizationType) -> bool:
    """Whether rows of so many columns can be cut into the blocks of a type."""
    return columns % GGML_QUANT_SIZES[stored][0] == 0


def stored_as(
    name: str, shape: tuple[int, ...], type: str, config: GPTConfig, weighed: bool = False
) -> GGMLQuantizationType:
    """The type of a tensor of this name and shape (out, in) in a file of this type; `weighed`: rounded by importance.

    It may not fit either (`fits`): with rows that 32 does not divide, llama.cpp writes no blocks of 32.
    """
    first = wanted(name, shape, type, config, weighed)
    if fits(shape[-1], first) or first not in _NARROWER:
        return first
    second = _NARROWER[first]
    return second if fits(shape[-1], second) else GGMLQuantizationType.F16


def wanted(
    name: str, shape: tuple[int, ...], type: str, config: GPTConfig, weighed: bool = False
) -> GGMLQuantizationType:
    """The type of a tensor if its rows fit.

    Norms, biases and positions stay f32. The matrix that makes the logits (a tied embedding is it) gets Q6_K, or Q8_0
    where its rows do not fit that.
    The M of Q4_K_M and Q5_K_M: in the first and last eighth of the layers, and every third between, the values'
    projection and the way out of the MLP get Q6_K. (What llama.cpp does beside this is for 80 layers and for experts.)
    """
    matrices = TYPES[type][0]
    if len(shape) == 1 or name == "position_embd.weight":
        return GGMLQuantizationType.F32
    if matrices in UNWEIGHED:
        return matrices
    if name == ("token_embd.weight" if config.tied else "output.weight"):
        six = fits(shape[-1], GGMLQuantizationType.Q6_K)
        return GGMLQuantizationType.Q6_K if six else GGMLQuantizationType.Q8_0
    part = name.split(".")[2] if name.startswith("blk.") else ""
    if type in _MIXED and part in ("attn_v", "attn_qkv", "ffn_down") and _more(name, config.n_layer):
        return GGMLQuantizationType.Q6_K
    if type in _WITH_MINIMUM and weighed and part == "ffn_down" and _layer(name) < config.n_layer // 8:
        return _WITH_MINIMUM[type]
    return matrices


def _more(name: str, n_layer: int) -> bool:
    """Whether a layer is one of those that get more bits."""
    layer, eighth = _layer(name), n_layer // 8
    return layer < eighth or layer >= 7 * n_layer // 8 or (layer - eighth) % 3 == 2


def _layer(name: str) -> int:
    return int(name.split(".")[1])
