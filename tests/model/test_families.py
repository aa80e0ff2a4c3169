"""One file a family: nobody else tests for a name, and one that comes later touches none of the others."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import journey
from journey.errors import JourneyError
from journey.infer import gguf
from journey.infer.blocks import BLOCK
from journey.infer.engine import cache_bytes_per_token
from journey.infer.torch_runner import PagedCache
from journey.model import families, huggingface
from journey.model.config import GPTConfig
from journey.model.families.family import Stored
from journey.model.families.llama import ATTENTION, Llama
from journey.model.gpt import GPT
from journey.model.layers import Block, Cache, explicit_attention, rotate
from journey.train.optimizers import make_optimizers
from tests.pieces import in_pieces

SOURCE = Path(journey.__file__).parent

# Lines that test for such a name and mean something else, or must say what a file from elsewhere is.
ALLOWED = {
    "data/vocabularies.py": {
        'if given != "auto" and (given != "gpt2"',  # a tokenizer
        'if given == "auto" and family and (known is None or known.tokenizer != "gpt2"):',  # a tokenizer
        'if name == "gpt2":',  # a tokenizer
    },
    "doctor/__init__.py": {'"Numbers": {'},  # titles of checks
    "infer/gguf.py": {"PRE_TOKENIZERS = {"},  # split patterns
    "model/foreign/__init__.py": {
        "if family and family not in FAMILIES:",  # whether there is such a one
        "if family == gpt2.FAMILY:",  # whose reader it is
    },
    "benching/yardstick.py": {"VOCABULARIES = {"},  # by how a size's name begins
    "tokenizer/codec.py": {"PATTERNS = {"},
    "tokenizer/formats.py": {'if pattern == "gpt2":'},
    "verbs/tokenizer.py": {'if name == "gpt2" or'},  # a tokenizer
}


def asking_for_a_name(text):
    """The lines that compare something with a family's name or a `family` with anything, and dicts keyed by names."""

    def is_name(node):
        return isinstance(node, ast.Constant) and node.value in families.FAMILIES

    def is_family(node):
        return "family" in (getattr(node, "id", ""), getattr(node, "attr", ""))

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            inside = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
            none = any(isinstance(side, ast.Constant) and side.value is None for side in node.comparators)
            found = any(map(is_name, inside)) or (any(map(is_family, (node.left, *node.comparators))) and not none)
        elif isinstance(node, ast.match_case):
            found = any(map(is_name, ast.walk(node.pattern)))
        else:
            found = isinstance(node, ast.Dict) and any(map(is_name, node.keys))
        if found:
            yield text.splitlines()[(node.pattern if isinstance(node, ast.match_case) else node).lineno - 1].strip()


def test_no_one_else_tests_for_the_name_of_a_family():
    seen = {}
    for path in sorted(SOURCE.rglob("*.py")):
        place = str(path.relative_to(SOURCE))
        if not place.startswith("model/families/"):
            seen |= {(place, line): None for line in asking_for_a_name(path.read_text(encoding="utf-8"))}
    allowed = {(place, begin) for place, lines in ALLOWED.items() for begin in lines}
    new = [found for found in seen if not any(found[0] == place and found[1].startswith(b) for place, b in allowed)]
    assert not new, "ask the family instead: journey.model.families.get(config.family)"
    gone = [(place, b) for place, b in allowed if not any(place == p and line.startswith(b) for p, line in seen)]
    assert not gone, "no longer there: take them out of ALLOWED"


@pytest.mark.parametrize(
    "line",
    [
        'x = 1 if config.family == "gpt2" else 2',
        'while "qwen3" != kind: pass',
        'assert kind in ("llama", "mistral")',
        "assert config.family != other",
        'table = {"gpt2": 1}',
        'match kind:\n    case "a" | "qwen3": pass',
    ],
)
def test_such_a_test_would_be_seen(line):
    assert list(asking_for_a_name(line))


def test_names_and_objects_are_of_the_same_families():
    assert tuple(families.table()) == families.FAMILIES
    for name, family in families.table().items():
        assert families.get(name) is families.find(family.model_type) is family
    with pytest.raises(JourneyError, match='unknown model family "lama", did you mean "llama"'):
        families.get("lama")
    assert families.find("bert") is None is families.find(None)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_parameter_stands_in_both_files_once(name):
    model = GPT(GPTConfig.make(name, 97, 16, 2, 32, tied=False))
    layout = families.get(name).layout(model.config)
    assert sorted(ours for stored in layout for ours in stored.ours) == sorted(dict(model.named_parameters()))
    for names in ([stored.huggingface for stored in layout], [stored.gguf for stored in layout]):
        assert len(set(names)) == len(names)


# A family as a later one may be: experts in one stack, a cache of one short vector a token, a field of its own.


@dataclass(frozen=True)
class ToyConfig(GPTConfig):
    n_expert: int = 3


class Latent(nn.Module):
    """Attention of one head whose keys are its values; they are all that is kept of a token."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.q, self.k, self.v, self.o = (nn.Linear(config.n_embd, config.n_embd, bias=False) for _ in range(4))

    def forward(self, x: Tensor, rope: Tensor, mask: Tensor | None, cache: Cache | None, trace: dict | None) -> Tensor:
        q, k = rotate(self.q(x).unsqueeze(2), rope), self.k(x)  # (B, T, 1, C), (B, T, C)
        if cache is not None:
            (k,) = cache.update(self.layer, k)
        y, _ = explicit_attention(q.transpose(1, 2), k.unsqueeze(1), self.v(k).unsqueeze(1), mask)
        return self.o(y.squeeze(1))


class Experts(nn.Module):
    """Their mean."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.down = nn.Module()
        self.down.weight = nn.Parameter(torch.empty(config.n_expert, config.n_embd, config.n_embd))

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(torch.einsum("btc,erc->bter", x, self.down.weight)).mean(2)


class Toy(Llama):
    name = gguf = "toy"
    model_type, architecture = "toy_moe", "ToyForCausalLM"
    config = ToyConfig
    gguf_interleaved = False
    parts = (
        *ATTENTION,
        Stored("post_attention_layernorm", "ffn_norm", ("mlp_norm",)),
        Stored("mlp.experts.down_proj", "ffn_down_exps", ("mlp.down",)),
    )

    def block(self, config, layer):
        return Block(self.make_norm(config), Latent(config, layer), self.make_norm(config), Experts(config))

    def n_matmul(self, config):
        return config.n_layer * (4 + config.n_expert) * config.n_embd**2 + config.vocab_size * config.n_embd

    def cached(self, config):
        return ((config.n_embd,),)

    def config_json(self, config):
        return super().config_json(config) | {"num_experts": config.n_expert}

    def read_config(self, saved):
        common = {**vars(super().read_config(saved))}
        return ToyConfig(**common, n_expert=saved["num_experts"])


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(families.table(), "toy", Toy())
    torch.manual_seed(0)
    return GPT(GPTConfig.make("toy", 97, 32, 2, 16, n_head=1))


def test_a_new_family_is_saved_and_read_with_a_field_of_its_own(toy, tmp_path):
    assert toy.config.n_params == sum(p.numel() for p in toy.parameters())
    huggingface.save(toy, tmp_path)
    again = huggingface.load(tmp_path)
    assert again.config == toy.config and again.config.n_expert == 3
    ids = torch.randint(97, (2, 9))
    assert torch.equal(again(ids), toy(ids))
    assert dict(gguf.tensors(toy))["blk.1.ffn_down_exps.weight"].shape == (3, 16, 16)


@torch.inference_mode()
def test_a_new_family_says_what_is_cached(toy):
    ids = torch.randint(97, (2, 9))
    cache = PagedCache(toy.config, 3, ids.device, torch.float32)
    assert [kept.shape for kept in cache.kept] == [(2, 3 * BLOCK + 1, 16)]  # (n_layer, places, C)
    assert cache_bytes_per_token(toy) == 2 * 16 * 4
    logits = in_pieces(toy, ids, [5, 1, 3])
    assert (logits - toy(ids)).abs().max() < 1e-5


def test_a_stack_of_experts_goes_to_muon(toy):
    adamw, muon = make_optimizers(toy, "muon", 1e-3, 0.02, 0.1).all
    stacks = [p for p in toy.parameters() if p.dim() == 3]
    assert len(stacks) == 2 and toy.blocks[0].mlp.down.weight.std() > 0.01
    given = {id(p) for group in muon.param_groups for p in group["params"]}
    assert {id(p) for p in stacks} <= given
    assert not given & {id(p) for group in adamw.param_groups for p in group["params"]}
