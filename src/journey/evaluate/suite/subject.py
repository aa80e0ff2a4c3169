"""A GPT of ours as a suite asks it."""

from collections.abc import Mapping, Sequence

from journey import chat
from journey.errors import JourneyError
from journey.evaluate.likelihood import Continuation, likelihoods
from journey.evaluate.suite.running import Prompt, Scored, Written
from journey.infer.engine import generate
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer


class Model:
    """A model and its tokenizer. With `taught` it is asked in the chat format wherever a prompt has messages; else it
    goes on with the text, the document mark before it, as `journey generate` does."""

    def __init__(self, id: str, model: GPT, tokenizer: Tokenizer, taught: bool) -> None:
        self.id = f"{id} {'chat' if taught else 'text'}"
        self.model, self.tokenizer, self.taught = model, tokenizer, taught

    def write(self, prompts: Sequence[Prompt]) -> list[Written]:
        """The greedy answer to each, of half of the context at most; those of one limit are written together."""
        found: dict[int, Written] = {}
        limits = [min(prompt.max_new_tokens, self.model.config.n_ctx // 2) for prompt in prompts]
        for n in sorted(set(limits)):
            places = [i for i, limit in enumerate(limits) if limit == n]
            asked = [self._ids(prompts[i], self.model.config.n_ctx - n) for i in places]
            written = generate(self.model, [ids for ids, _ in asked], max_new_tokens=n, stop=self.tokenizer.stop)
            for i, (_, cut), each in zip(places, asked, written, strict=True):
                found[i] = Written(self.tokenizer.words(each.ids), len(each.ids), each.ended, cut)
        return [found[i] for i in range(len(prompts))]

    def logprobs(self, prompts: Sequence[Prompt]) -> list[Scored]:
        """ln p of each prompt's options; in the chat format nothing stands before an answer, so that an option loses
        the space before it there."""
        asked, n_ctx = [], self.model.config.n_ctx
        for prompt in prompts:
            in_chat = self._in_chat(prompt)
            options = [self.tokenizer.encode(o.removeprefix(" ") if in_chat else o) for o in prompt.options]
            longest = max(map(len, options))
            if longest >= n_ctx:
                raise JourneyError(f"a choice of {longest} tokens does not fit in a context of {n_ctx}: shorten it")
            ids, cut = self._ids(prompt, n_ctx + 1 - longest)
            asked.append(([Continuation(ids, option) for option in options], cut))
        found = iter(likelihoods(self.model, [each for options, _ in asked for each in options]))
        return [Scored(tuple(next(found).logprob for _ in options), cut) for options, cut in asked]

    def _in_chat(self, prompt: Prompt) -> bool:
        return self.taught and bool(prompt.messages)

    def _ids(self, prompt: Prompt, room: int) -> tuple[list[int], int]:
        """The prompt's ids, at most `room` of them, and how many were cut from the left; a mark that opens it stays."""
        messages: Sequence[Mapping[str, str]] = prompt.messages
        if self._in_chat(prompt):
            ids = chat.encode_prompt(messages, self.tokenizer)
        else:
            ids = [self.tokenizer.bos, *self.tokenizer.encode(prompt.text)]
        cut = max(0, len(ids) - room)
        return (ids if not cut else [ids[0], *ids[cut + 1 :]]), cut
