"""The counts that a config states, and the shapes that it refuses."""

import pytest
import torch

from journey.errors import JourneyError
from journey.model import families
from journey.model.config import GPTConfig
from journey.model.families import FAMILIES
from journey.model.gpt import GPT


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_n_params_and_n_matmul_count_the_tensors(family, tied):
    n_kv_head = 2 if families.get(family).shares_keys else None
    model = GPT(GPTConfig.make(family, 97, 32, 3, 64, 4, n_kv_head, tied))
    assert model.config.n_params == sum(p.numel() for p in model.parameters())
    blocks = sum(p.numel() for name, p in model.named_parameters() if name.startswith("blocks.") and p.dim() == 2)
    assert blocks == sum(p.numel() for p in model.matrices())
    assert model.config.n_matmul == blocks + model.head.weight.numel()


def test_gpt2_124m_has_the_published_counts():
    config = GPTConfig.make("gpt2", 50257, 1024, 12, 768)
    assert (config.n_head, config.n_inner, config.n_params) == (12, 3072, 124_439_808)
    # PaLM's formula by hand: 6 (85.0 M + 38.6 M) + 12 * 12 * 768 * 1024
    assert config.flops_per_token(1024) == 6 * (12 * 12 * 768**2 + 50257 * 768) + 12 * 12 * 768 * 1024


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("qwen", 97, 32, 2, 64), 'unknown model family "qwen", did you mean "qwen3"'),
        (("bert", 97, 32, 2, 64), "choose one of gpt2, llama, qwen2, qwen3"),
        (("qwen3", 97, 32, 2, 64, 3), "n_embd 64 is no multiple of n_head 3"),
        (("qwen3", 97, 32, 2, 64, 4, 3), "n_head 4 is no multiple of n_kv_head 3"),
        (("qwen3", 97, 32, 2, 64, 4, 0), "n_kv_head is 0"),
        (("qwen3", 97, 0, 2, 64), "n_ctx is 0"),
        (("qwen3", 97, 32, 2, 60, 4), "head_dim 15 is odd"),
        (("gpt2", 97, 32, 2, 64, 4, 2), "leave out n_kv_head"),
    ],
)
def test_impossible_shapes_are_refused_in_one_line(arguments, message):
    with pytest.raises(JourneyError, match=message):
        GPTConfig.make(*arguments)


LLAMA31_8B = {
    **{"vocab_size": 128_256, "max_position_embeddings": 131_072, "hidden_size": 4096, "intermediate_size": 14_336},
    **{"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5},
    "rope_theta": 500_000.0,
    "rope_scaling": {
        **{"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"},
        "original_max_position_embeddings": 8192,
    },
}
LLAMA32_1B = LLAMA31_8B | {
    **{"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64},
    **{"tie_word_embeddings": True, "rope_scaling": LLAMA31_8B["rope_scaling"] | {"factor": 32.0}},
}
QWEN25_7B = {
    **{"vocab_size": 152_064, "max_position_embeddings": 131_072, "hidden_size": 3584, "intermediate_size": 18_944},
    **{"num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "rope_theta": 1e6},
}


@pytest.mark.parametrize(
    ("family", "saved", "n_params"),
    [
        ("llama", LLAMA31_8B, 8_030_261_248),
        ("llama", LLAMA32_1B, 1_235_814_400),
        ("qwen2", QWEN25_7B, 7_615_616_512),
    ],
)
def test_a_config_json_from_the_hub_has_the_published_count(family, saved, n_params):
    config = families.get(family).read_config(saved)
    assert config.n_params == n_params
    with torch.device("meta"):
        assert sum(p.numel() for p in GPT(config).parameters()) == n_params
