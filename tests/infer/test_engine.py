"""Generation against the full forward pass and Hugging Face's generate; a text does not depend on its batch."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from journey.errors import JourneyError
from journey.infer.engine import Completion, generate, stream
from journey.infer.sampling import Sampling
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT

V, N_CTX = 97, 48
WARM = Sampling(temperature=1.2, top_k=20, top_p=0.9, seed=5)


@pytest.fixture(scope="module", params=[("gpt2", None), ("llama", 2), ("qwen2", 2), ("qwen3", 1)], ids=lambda p: p[0])
def model(request):
    """Weights large enough that greedy text wanders and no two tokens are nearly equal."""
    torch.manual_seed(1)
    model = GPT(GPTConfig.make(request.param[0], V, N_CTX, 2, 32, 4, request.param[1]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + name.endswith("norm.weight"))
    return model


@pytest.fixture(scope="module")
def prompts():
    lengths = [3, 11, 1, 7, 7, 20, 2]
    return [torch.randint(V, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in lengths]


@torch.no_grad()
def by_full_passes(model: GPT, prompt: list[int], max_new_tokens: int, stop: set[int]) -> Completion:
    """Greedy decoding with no cache: the whole text is read anew for each token."""
    ids = list(prompt)
    while len(ids) - len(prompt) < max_new_tokens and len(ids) < N_CTX:
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] in stop:
            return Completion(ids[len(prompt) :], True)
    return Completion(ids[len(prompt) :], False)


def test_greedy_text_equals_the_full_pass_and_transformers(model, prompts, tmp_path):
    free = generate(model, prompts, max_new_tokens=20, stop=set())
    assert [len(c.ids) for c in free] == [20] * len(prompts)
    assert len({token for c in free for token in c.ids}) > 15  # the texts are not one token over and over
    stop = {free[1].ids[4], free[5].ids[9]}  # so that some rows end early, and not together
    completions = generate(model, prompts, max_new_tokens=20, stop=stop)
    assert completions == [by_full_passes(model, prompt, 20, stop) for prompt in prompts]
    assert completions[1].ended and completions[1].ids[-1] in stop

    huggingface.save(model, tmp_path, bos=1, eos=None, pad=0)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path)
    for prompt, ours in zip(prompts, completions, strict=True):
        theirs = reference.generate(
            torch.tensor([prompt]), max_new_tokens=20, do_sample=False, eos_token_id=sorted(stop), pad_token_id=0
        )
        assert theirs[0, len(prompt) :].tolist() == ours.ids


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), WARM], ids=["greedy", "sampled"])
def test_a_text_does_not_depend_on_its_batch(model, prompts, sampling):
    options = {"max_new_tokens": 15, "stop": {3, 4, 5, 6}, "sampling": sampling}
    together = generate(model, prompts, **options)
    assert generate(model, prompts, batch_size=1, **options) == together
    assert generate(model, prompts, batch_size=3, **options) == together
    assert generate(model, prompts[:2], **options) == together[:2]
    assert list(stream(model, prompts[0], **options)) == together[0].ids


def test_one_seed_one_text_and_rows_differ(model, prompts):
    same = [prompts[0]] * 4
    first = generate(model, same, max_new_tokens=15, stop=set(), sampling=WARM)
    assert generate(model, same, max_new_tokens=15, stop=set(), sampling=WARM) == first
    assert len({tuple(c.ids) for c in first}) == 4


def test_text_stops_at_the_end_of_the_context(model, prompts):
    completions = generate(model, prompts, max_new_tokens=1000, stop=set())
    assert [len(p) + len(c.ids) for p, c in zip(prompts, completions, strict=True)] == [N_CTX] * len(prompts)
    assert completions[0] == by_full_passes(model, prompts[0], 1000, set())
    assert not any(c.ended for c in completions)


def test_nothing_asked_nothing_written(model, prompts):
    assert generate(model, [], max_new_tokens=5, stop=set()) == []
    assert generate(model, prompts[:1], max_new_tokens=0, stop=set()) == [Completion([], False)]


def test_a_prompt_that_cannot_be_continued_is_refused(model):
    with pytest.raises(JourneyError, match="the prompt has 48 tokens, the context 48"):
        generate(model, [[1], [1] * N_CTX], max_new_tokens=1, stop=set())
    with pytest.raises(JourneyError, match="the prompt is empty"):
        generate(model, [[]], max_new_tokens=1, stop=set())


def test_a_stream_left_in_the_middle_leaves_gradients_on(model, prompts):
    tokens = stream(model, prompts[0], max_new_tokens=5, stop=set())
    next(tokens)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_row_that_holds_what_it_was_to_write_is_not_gone_on_with(model, prompts):
    free = generate(model, prompts, max_new_tokens=20, stop=set())
    ends = {tuple(c.ids[:n]) for n, c in zip((3, 20, 1, 5, 5, 9, 2), free, strict=True)}
    halted = generate(model, prompts, max_new_tokens=20, stop=set(), until=lambda ids: tuple(ids) in ends)
    assert [len(c.ids) for c in halted] == [3, 20, 1, 5, 5, 9, 2]
    assert all(c.ids == f.ids[: len(c.ids)] and not c.ended for c, f in zip(halted, free, strict=True))


def test_a_prompt_s_number_says_which_random_numbers_it_draws(model, prompts):
    whole = generate(model, prompts, max_new_tokens=12, stop=set(), sampling=WARM)
    some = generate(model, prompts[4:], max_new_tokens=12, stop=set(), sampling=WARM, numbers=[4, 5, 6])
    assert some == whole[4:] != generate(model, prompts[4:], max_new_tokens=12, stop=set(), sampling=WARM)
