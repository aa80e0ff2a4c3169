"""Engines from elsewhere as lm-evaluation-harness calls them: a GGUF file in llama.cpp, and a server's."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from journey.errors import JourneyError
from journey.evaluate.benchmark.lm import AT_ONCE, Done, Progress, Scorer, Tokenized, Writing
from journey.evaluate.endpoint import Endpoint
from journey.evaluate.kept import Kept
from journey.evaluate.likelihood import Continuation, Likelihood
from journey.files import parse_json
from journey.infer.llamacpp import LlamaCpp
from journey.tokenizer.formats import Tokenizer

ONLY_LIKELIHOOD = "of a GGUF file only likelihoods are measured: name its model's folder for answers and for --chat"


class InLlamaCpp(Scorer):
    """A GGUF file, which llama.cpp reads and cuts into tokens as it always does: the number is the file's, not that of
    the weights it was made of. It is asked one option at a time, and only how likely texts are."""

    def __init__(self, llama: LlamaCpp, *, kept: Kept | None = None, progress: Progress = lambda *_: None) -> None:
        super().__init__(llama.n_ctx, None, kept, progress)
        self.llama = llama

    @property
    def prefix_token_id(self) -> int:
        return int(self.llama.metadata["tokenizer.ggml.bos_token_id"])

    def encode(self, text: str) -> list[int]:
        return self.llama.tokenize(text)

    def converse(self, messages: Sequence[dict[str, Any]], answer: bool) -> list[int]:
        raise JourneyError(ONLY_LIKELIHOOD)

    def score(self, asked: Sequence[Continuation], done: Done) -> None:
        for i, each in enumerate(asked):
            ids, n, cut = each.within(self.n_ctx)
            logits = torch.from_numpy(self.llama.logits(ids[:-1], first=len(ids) - 1 - n))  # (n, V)
            wanted = torch.tensor(ids[-n:])
            logprob = -F.cross_entropy(logits, wanted, reduction="none").double().sum().item()
            greedy = bool((logits.argmax(-1) == wanted).all())
            done([i], [Likelihood(logprob, greedy, cut)])

    def write(self, prompts: list[list[int]], numbers: list[int], how: Writing) -> list[str]:
        raise JourneyError(ONLY_LIKELIHOOD)


class AtUrl(Tokenized):
    """A node that another engine serves behind an OpenAI-compatible URL, asked by its tokens: the completions API with
    `echo` and `logprobs`, which vLLM has. The node is here too, for its tokenizer."""

    def __init__(
        self,
        url: str,
        model: str,
        tokenizer: Tokenizer,
        n_ctx: int,
        *,
        kept: Kept | None = None,
        progress: Progress = lambda *_: None,
    ) -> None:
        super().__init__(n_ctx - 2, None, kept, progress)  # a row is n_ctx + 1 tokens, and the API writes one more
        self.endpoint, self.model, self.tokenizer = (
            Endpoint(url, "/completions", "the server", "JOURNEY_SERVER_KEY"),
            model,
            tokenizer,
        )

    def score(self, asked: Sequence[Continuation], done: Done) -> None:
        for start in range(0, len(asked), AT_ONCE):
            batch = asked[start : start + AT_ONCE]
            fitting = [each.within(self.n_ctx) for each in batch]
            told = self._ask([row for row, _, _ in fitting], max_tokens=1, logprobs=1, echo=True, temperature=0)
            found = []
            for (row, n, cut), choice in zip(fitting, told, strict=True):
                own = slice(len(row) - n, len(row))
                logprobs, best = self._logprobs(choice, len(row))
                greedy = all(p >= top for p, top in zip(logprobs[own], best[own], strict=True))
                found.append(Likelihood(sum(logprobs[own]), greedy, cut))
            done(list(range(start, start + len(batch))), found)

    def write(self, prompts: list[list[int]], numbers: list[int], how: Writing) -> list[str]:
        said: dict[str, Any] = {
            "max_tokens": how.n,
            "temperature": how.sampling.temperature,
            "top_p": how.sampling.top_p,
        }
        said |= {"stop": list(how.until)} if how.until else {}
        if not how.sampling.temperature:
            return [str(choice.get("text", "")) for choice in self._ask(prompts, **said)]
        alone = zip(prompts, numbers, strict=True)  # a seed is of a whole request
        return [str(self._ask([prompt], **said, seed=number)[0].get("text", "")) for prompt, number in alone]

    def _ask(self, rows: Sequence[Sequence[int]], **how: Any) -> list[dict[str, Any]]:
        """The choice of each row, in order. Errors: JourneyError for an answer of another form."""
        said = self.endpoint.post({"model": self.model, "prompt": [list(row) for row in rows], **how})
        try:
            choices = sorted(parse_json(said, "")["choices"], key=lambda choice: choice["index"])
        except (JourneyError, KeyError, TypeError):
            choices = []
        if len(choices) != len(rows):
            raise JourneyError(
                f"{self.endpoint.shown} is no completions API: give its base, as http://localhost:8000/v1"
            )
        return choices

    def _logprobs(self, choice: dict[str, Any], n: int) -> tuple[list[float], list[float]]:
        """ln p of the n tokens of a row, and of the likeliest at each place; of the first nothing is known."""
        try:
            told = choice["logprobs"]
            logprobs = [p or 0.0 for p in told["token_logprobs"][:n]]
            best = [max(top.values()) if top else 0.0 for top in told["top_logprobs"][:n]]
        except (KeyError, TypeError, ValueError, AttributeError):
            logprobs = best = []
        if len(logprobs) != n or len(best) != n:
            raise JourneyError(
                f"{self.endpoint.shown} gives no log-probabilities of the prompt (echo and logprobs): ask it for "
                "answers alone, or a server that has them, as vLLM"
            )
        return logprobs, best
