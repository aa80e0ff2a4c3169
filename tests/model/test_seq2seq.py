"""The encoder–decoder against transformers' MarianMTModel and torch's own layers."""

import json

import pytest
import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel

from journey.errors import JourneyError
from journey.model import marian
from journey.model.seq2seq import DecoderBlock, EncoderBlock, Seq2Seq, Seq2SeqConfig, padded, sinusoids

V, PAD, BOS, EOS = 50, 47, 48, 49
CONFIG = Seq2SeqConfig(V, 24, 2, 3, 4, 32, 56, PAD)


def small(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    model = Seq2Seq(config).eval()
    with torch.no_grad():  # norms and biases are 1 and 0 at first, which would hide one in the place of another
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def ours():
    return small()


@pytest.fixture(scope="module")
def folder(ours, tmp_path_factory):
    made = tmp_path_factory.mktemp("marian")
    marian.save(ours, made, start=BOS, eos=EOS)
    return made


@pytest.fixture(scope="module")
def theirs(folder):
    model, about = MarianMTModel.from_pretrained(folder, output_loading_info=True)
    assert not any(about.values()), about
    return model.eval()


@pytest.fixture(scope="module")
def batch():
    """Three pairs of different lengths: sources, what was written, targets (-100 where there is none)."""
    generator = torch.Generator().manual_seed(1)
    sources, targets = (
        [torch.randint(0, PAD, (n,), generator=generator).tolist() for n in lengths]
        for lengths in ((9, 4, 6), (5, 7, 1))
    )
    return (
        padded(sources, PAD),
        padded([[BOS, *ids] for ids in targets], PAD),
        padded([[*ids, EOS] for ids in targets], -100),
    )


def far(ours, theirs):
    """The largest difference, of the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def test_logits_loss_and_every_gradient_are_those_of_transformers(ours, theirs, batch):
    source, written, targets = batch
    mask = (source != PAD).long()
    expected = theirs(source, attention_mask=mask, decoder_input_ids=written, labels=targets)
    kept = targets != -100
    logits = ours(source, written)
    assert far(logits[kept], expected.logits[kept]) < 1e-5
    loss = ours(source, written, targets)
    assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)
    ours.zero_grad(), theirs.zero_grad()
    loss.backward(), expected.loss.backward()
    gradients = {n: p.grad for n, p in theirs.named_parameters() if not n.endswith("embed_positions.weight")}
    named = marian.tensors(ours)
    assert gradients.keys() == named.keys()
    for name, parameter in named.items():
        if name.endswith("k_proj.bias"):  # a softmax does not see it: the gradient is rounding
            assert parameter.grad.abs().max() < 1e-6 and gradients[name].abs().max() < 1e-6
        else:
            assert far(parameter.grad, gradients[name]) < 1e-4, name


def test_labels_are_shifted_as_transformers_shifts_them(theirs, batch):
    """What is fed to the decoder follows from the targets, so that their Trainer goes on from our folder."""
    _, written, targets = batch
    kept = targets != -100
    assert torch.equal(theirs.prepare_decoder_input_ids_from_labels(targets)[kept], written[kept])


def test_smoothed_loss_is_that_of_transformers_trainer(ours, batch):
    from transformers.modeling_outputs import Seq2SeqLMOutput
    from transformers.trainer_pt_utils import LabelSmoother

    source, written, targets = batch
    expected = LabelSmoother(epsilon=0.1)(Seq2SeqLMOutput(logits=ours(source, written)), targets)
    assert ours(source, written, targets, smoothing=0.1).item() == pytest.approx(expected.item(), rel=1e-6)


def test_padding_and_later_tokens_change_nothing(ours, batch):
    source, written, targets = batch
    whole = ours(source, written)
    for row in range(len(source)):
        alone = ours(source[row : row + 1, : (source[row] != PAD).sum()], written[row : row + 1, :3])
        assert far(alone[0], whole[row, :3]) < 1e-5 or (targets[row] != -100).sum() < 3


def test_cross_attention_is_that_of_transformers(ours, theirs, batch):
    source, written, _ = batch
    theirs.set_attn_implementation("eager")
    expected = theirs(source, attention_mask=(source != PAD).long(), decoder_input_ids=written, output_attentions=True)
    theirs.set_attn_implementation("sdpa")
    trace = {}
    ours.decode(written, ours.encode(source), trace=trace)
    for layer, pattern in enumerate(expected.cross_attentions):
        torch.testing.assert_close(trace["cross", layer], pattern, atol=1e-6, rtol=1e-5)
    assert len(trace) == CONFIG.decoder_layers


def put(ours, theirs):
    """Our attention's projections in torch's stacked ones."""
    theirs.in_proj_weight.data = torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]).detach()
    theirs.in_proj_bias.data = torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]).detach()
    theirs.out_proj.load_state_dict(ours.o.state_dict())


def test_a_block_is_torchs_layer():
    torch.manual_seed(2)
    shape = {"dim_feedforward": 56, "dropout": 0.0, "batch_first": True, "norm_first": False}
    encoder, decoder = nn.TransformerEncoderLayer(32, 4, **shape), nn.TransformerDecoderLayer(32, 4, **shape)
    ours, ours_too = EncoderBlock(CONFIG, 0), DecoderBlock(CONFIG, 0)
    put(ours.attention, encoder.self_attn)
    put(ours_too.attention, decoder.self_attn)
    put(ours_too.cross, decoder.multihead_attn)
    for block, layer, norms in (
        (ours, encoder, ("attention_norm", "mlp_norm")),
        (ours_too, decoder, ("attention_norm", "cross_norm", "mlp_norm")),
    ):
        layer.linear1.load_state_dict(block.mlp.up.state_dict())
        layer.linear2.load_state_dict(block.mlp.down.state_dict())
        for i, name in enumerate(norms, 1):
            nn.init.normal_(getattr(block, name).weight)
            nn.init.normal_(getattr(block, name).bias)
            getattr(layer, f"norm{i}").load_state_dict(getattr(block, name).state_dict())
    source, written = torch.randn(2, 7, 32), torch.randn(2, 5, 32)
    seen = torch.arange(7) < torch.tensor([[7], [4]])  # (B, S)
    x = ours(source, seen[:, None, None])
    expected = encoder(source, src_key_padding_mask=~seen)
    assert far(x[seen], expected[seen]) < 1e-5
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    y = ours_too(written, ours_too.cross.read(x), seen[:, None, None], None, None, None)
    there = decoder(written, x, tgt_mask=causal, tgt_is_causal=True, memory_key_padding_mask=~seen)
    assert far(y, there) < 1e-5


def test_the_first_weights_give_an_even_guess():
    """Nats per token near log V, and streams of unit size: what post-norm needs to train at all."""
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(400, 32, 2, 2, 4, 128, 512, 0))
    ids, targets = torch.randint(1, 400, (2, 8, 16))
    assert 5.8 < model(ids, ids, targets).item() < 7
    assert 0.8 < (model.embed.weight.std() * 128**0.5).item() < 1.2


def test_sines_are_those_of_the_paper():
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(the same), here in halves; and a shift by k is a
    rotation that does not depend on the place, which is why the paper chose them."""
    table = sinusoids(40, 16).double()
    for pos, i in ((0, 0), (7, 3), (39, 7)):
        angle = pos / 10000 ** (2 * i / 16)
        expected = torch.tensor(angle, dtype=torch.float64)
        assert torch.allclose(table[pos, i], expected.sin()) and torch.allclose(table[pos, 8 + i], expected.cos())
    products = table @ table.T
    assert torch.allclose(products.diagonal(5), products[0, 5].expand(35), atol=1e-5)


def test_dropout_is_of_training_alone(batch):
    source, written, _ = batch
    model = small(config=Seq2SeqConfig(V, 24, 1, 1, 4, 32, 56, PAD, dropout=0.5))
    assert torch.equal(model(source, written), model(source, written))
    model.train()
    assert not torch.equal(model(source, written), model(source, written))


def test_arithmetic_is_counted_as_torch_counts_it():
    from torch.utils.flop_counter import FlopCounterMode

    model, ids = small(), torch.randint(0, PAD, (1, 12))
    with FlopCounterMode(display=False) as counter:
        model(ids, ids[:, :7], ids[:, :7]).backward()
    # torch counts scaled_dot_product_attention on a CPU not at all: without it, the products.
    C, S, T = 32, 12, 7
    attention = 12 * C * (2 * S * S + 3 * T * (T + S))
    assert model.config.flops(S, T) - attention == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_a_folder_comes_back(ours, folder, batch):
    source, written, _ = batch
    again = marian.load(folder)
    assert again.config == ours.config and torch.equal(again(source, written), ours(source, written))


def test_what_transformers_saves_is_read(tmp_path, batch):
    shape = {"vocab_size": V, "d_model": 32, "max_position_embeddings": 24, "pad_token_id": PAD, "eos_token_id": EOS}
    for side, layers in (("encoder", 1), ("decoder", 2)):
        shape |= {f"{side}_layers": layers, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 40}
    shape |= {"activation_function": "relu", "scale_embedding": True, "decoder_start_token_id": PAD, "dropout": 0.3}
    theirs = MarianMTModel(MarianConfig(**shape)).eval()
    theirs.save_pretrained(tmp_path)
    source, written, targets = batch
    ours = marian.load(tmp_path).eval()
    expected = theirs(source, attention_mask=(source != PAD).long(), decoder_input_ids=written).logits
    assert ours.config.dropout == 0.3 and ours.config.decoder_layers == 2
    assert far(ours(source, written)[targets != -100], expected[targets != -100]) < 1e-5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation_function": "swish"}, "activation_function is 'swish', we compute 'relu' alone"),
        ({"scale_embedding": None}, "scale_embedding is None, we compute True alone"),
        ({"encoder_layers": 10**9}, "encoder_layers is 1,000,000,000: it must be from 1 to"),
        ({"encoder_layers": 3}, "3 blocks of the encoder are needed, 2 are there"),
        ({"d_model": "32"}, "d_model is '32', where a whole number belongs"),
        ({"d_model": 64}, r"model.shared.weight is \(50, 32\), where \(50, 64\) is needed"),
        ({"decoder_ffn_dim": 8}, "encoder and decoder differ"),
        ({"encoder_attention_heads": 5, "decoder_attention_heads": 5}, "no multiple of n_head 5"),
        ({"pad_token_id": 50}, "pad is 50: it must be an id below"),
        ({"model_type": "bart"}, "model_type bart, where marian is read"),
        ({"dropout": 1}, "dropout is 1: it must be at least 0 and below 1"),
    ],
)
def test_what_we_compute_otherwise_is_refused(folder, tmp_path, change, said):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(JourneyError, match=said):
        marian.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"final_logits_bias": torch.ones(1, V)}, "final_logits_bias is not zero"),
        ({"lm_head.weight": torch.ones(V, 32)}, "we compute one embedding for all"),
        ({"model.encoder.layers.0.more": torch.ones(2)}, "more is no part of an encoder–decoder"),
        ({"model.encoder.layers.0.fc1.bias": None}, "the tensor model.encoder.layers.0.fc1.bias is missing"),
        ({"model.encoder.layers.0.fc1.bias": torch.ones(56, dtype=torch.int8)}, "quantized weights are not read"),
    ],
)
def test_weights_that_are_no_such_model_are_refused(folder, tmp_path, change, said):
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors") | change
    save_file({name: t for name, t in tensors.items() if t is not None}, tmp_path / "model.safetensors")
    with pytest.raises(JourneyError, match=said):
        marian.load(tmp_path)


def test_too_long_a_text_says_so(ours):
    with pytest.raises(JourneyError, match="25 tokens do not fit in the model's 24 positions"):
        ours.encode(torch.ones(1, 25, dtype=torch.long))
