"""Our GPT against transformers: logits, loss and gradients of each family, and what documents and traces promise."""

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from journey.errors import JourneyError
from journey.model import families, huggingface
from journey.model.config import GPTConfig
from journey.model.families import FAMILIES
from journey.model.gpt import GPT, document_blocks

SHAPES = [  # family, n_kv_head, tied
    pytest.param((family, n_kv_head, tied), id=f"{family}-{n_kv_head}{'' if tied else '-untied'}")
    for family in FAMILIES
    for n_kv_head, tied in [(4, True), (4, False), (2, True), (1, False)]
    if n_kv_head == 4 or families.get(family).shares_keys
]


def build(family: str, n_kv_head: int | None = None, tied: bool = True, vocab_size: int = 97) -> GPT:
    """A small model whose every weight, norms and biases too, is random and large enough to matter."""
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(family, vocab_size, 32, 2, 32, 4, n_kv_head, tied))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15 + name.endswith("norm.weight"))
    return model


@pytest.mark.parametrize("vocab_size", [97, 128], ids=["", "padded"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_loss_and_gradients_equal_transformers(shape, vocab_size, tmp_path):
    """Relative to the largest: no parameter's gradient is small enough to hide behind a fixed bound."""
    model = build(*shape, vocab_size=vocab_size)
    huggingface.save(model, tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.randint(97, (3, 32))  # the rows after them are padding: predicted, and never read
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.3, -100)

    theirs = reference(ids, labels=labels)
    loss = model(ids[:, :-1], labels[:, 1:])
    assert _far(model(ids), theirs.logits) < 1e-4
    assert abs(loss.item() - theirs.loss.item()) < 1e-5

    theirs.loss.backward()
    loss.backward()
    ours, expected = {name: p.grad for name, p in model.named_parameters()}, dict(reference.named_parameters())
    gradients = families.get(shape[0]).to_huggingface(model.config, ours)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert _far(gradient, expected[name].grad) < 1e-4, name


def _far(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def test_loss_in_chunks_is_the_cross_entropy_of_all_logits():
    """A vocabulary so large that the head runs in several chunks, some with no target at all."""
    model = build("qwen3", vocab_size=20_000)
    ids, targets = torch.randint(20_000, (2, 8, 32))
    targets[2:5] = -100  # rows of 64 are one chunk: the second has no target
    loss = model(ids, targets)
    loss.backward()
    gradient = model.embed.weight.grad.clone()
    model.zero_grad()
    expected = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-5
    assert (gradient - model.embed.weight.grad).abs().max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_are_computed_as_if_alone(family):
    """Packing across documents would show here: positions and attention must begin anew in each."""
    model, lengths = build(family), [5, 1, 17, 9]
    ids = torch.randint(97, (2, 32))
    documents = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths)).expand(2, -1)
    packed = model(ids, documents=documents)
    alone = torch.cat([model(part) for part in ids.split(lengths, dim=1)], dim=1)
    assert (packed - alone).abs().max() < 1e-5
    assert (packed - model(ids)).abs().max() > 1e-2  # without the mask it is another result


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_computed_again_give_the_same_gradients_in_less_memory(family):
    model, ids = build(family), torch.randint(97, (2, 33))
    documents = (ids[:, :-1] % 9 == 0).cumsum(1)
    kept, gradients, losses = [], [], []
    for model.recompute in (False, True):
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        model.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(ids[:, :-1], ids[:, 1:], documents=documents)
        kept.append(sum(sizes.values()))
        loss.backward()
        losses.append(loss.item())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        assert torch.isfinite(model(ids[:, :-1], trace={})).all()  # a trace is of blocks that are computed once
    assert losses[0] == losses[1]
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert kept[1] < kept[0] / 2


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("low", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", [("gpt2", 4), ("llama", 4), ("qwen3", 2)])
@torch.no_grad()  # the way back is a GPU's alone: tests/gpu
def test_documents_in_blocks_are_documents_in_a_mask(shape, low):
    """Documents that end inside a block of 128, at its end, and after it."""
    torch.manual_seed(0)
    model = GPT(GPTConfig.make(shape[0], 97, 300, 2, 64, 4, shape[1]))
    ids = torch.randint(97, (2, 300))
    lengths = torch.tensor([[3, 125, 128, 44], [290, 1, 1, 8]])
    documents = torch.stack([torch.repeat_interleave(torch.arange(4), row) for row in lengths])
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        expected = model.hidden(ids, documents=documents)
        ours = model.hidden(ids, documents=documents, blocks=document_blocks(documents))
    assert (ours - expected).norm() < (0.02 if low else 1e-5) * expected.norm()
    other = model.hidden(ids, documents=documents, blocks=document_blocks(documents * 0))
    assert (other - expected).norm() > 1e-2 * expected.norm()  # of one document it is another result


@pytest.mark.parametrize("shape", SHAPES)
def test_trace_equals_transformers(shape, tmp_path):
    model = build(*shape)
    huggingface.save(model, tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    ids, trace = torch.randint(97, (2, 32)), {}
    logits = model(ids, trace=trace)
    assert (logits - model(ids)).abs().max() < 1e-5
    theirs = reference(ids, output_hidden_states=True, output_attentions=True)
    for layer in range(2):  # their last hidden state is normed already
        assert (trace["resid", layer] - theirs.hidden_states[layer]).abs().max() < 1e-5
        assert (trace["pattern", layer] - theirs.attentions[layer]).abs().max() < 1e-5
    assert (model.norm(trace["resid", 2]) - theirs.hidden_states[2]).abs().max() < 1e-4
    assert len(trace) == 5


def test_trace_of_packed_documents_stays_inside_them():
    trace: dict = {}
    documents = torch.tensor([[0] * 10 + [1] * 22])
    build("qwen3")(torch.randint(97, (1, 32)), documents=documents, trace=trace)
    assert trace["pattern", 0][:, :, 10:, :10].abs().max() == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_initialisation_is_the_reference_of_the_family(family, tmp_path):
    """Same deviations, matrix by matrix, as transformers gives a model made from the same config.json."""
    model = GPT(GPTConfig.make(family, 500, 64, 3, 128))
    huggingface.save(model, tmp_path)
    reference = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(tmp_path).config)
    expected = dict(reference.named_parameters())
    for name, tensor in huggingface.tensors(model).items():
        assert abs(_std(tensor) - _std(expected[name])) < 0.05 * 0.02, name
        assert abs(tensor.mean().item() - expected[name].mean().item()) < 2e-3, name


def _std(tensor: Tensor) -> float:
    return tensor.detach().std().item()


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(JourneyError, match="33 tokens do not fit in the model's context of 32"):
        build("gpt2")(torch.zeros(1, 33, dtype=torch.int64))
