"""A model of ours as lm-evaluation-harness calls it.

Whatever answers, the questions are the harness's own strings and its way to cut context from continuation, so that two
engines differ by rounding alone.
"""

import contextlib
import itertools
import sys
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, TextIO

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from journey import chat
from journey.errors import JourneyError
from journey.evaluate.kept import Kept
from journey.evaluate.likelihood import Continuation, Likelihood, likelihoods
from journey.evaluate.suite.variants import perturbed
from journey.files import digest
from journey.infer.engine import generate
from journey.infer.sampling import Sampling
from journey.model.gpt import GPT
from journey.tokenizer.formats import Tokenizer

Progress = Callable[[int, int, str], None]  # how many are done, of how many, of what
Done = Callable[[list[int], list[Likelihood]], None]
Until = Callable[[list[int]], bool]
Pair = tuple[str, str]  # a context and what follows it
LONGEST = 256  # tokens that are written where a task does not say: the harness's
AT_ONCE = 32  # answers that are written together


@dataclass(frozen=True)
class Writing:
    """How an answer is written: the strings that end it, its most tokens, and how they are drawn."""

    until: tuple[str, ...]
    n: int
    sampling: Sampling

    @classmethod
    def of(cls, given: Mapping[str, Any], most: int) -> "Writing":
        """As a task says it (`generation_kwargs`), with at most `most` tokens."""
        until = given.get("until") or ()
        n = given.get("max_gen_toks", given.get("max_new_tokens", LONGEST))
        temperature = float(given.get("temperature") or 0.0) if given.get("do_sample") else 0.0
        sampling = Sampling(temperature, int(given.get("top_k") or 0), float(given.get("top_p") or 1.0))
        return cls((until,) if isinstance(until, str) else tuple(until), min(int(n), most), sampling)

    def ends(self, decode: Callable[[Sequence[int]], str]) -> Until:
        """Whether what is written holds one of the strings. A token is at least a byte, so that the last few tell."""
        few = max((len(text.encode()) for text in self.until), default=0)
        return lambda ids: any(text in decode(ids[-few:]) for text in self.until if few)

    def shortened(self, text: str) -> str:
        """A text up to the first of the strings."""
        return text[: min((text.find(end) for end in self.until if end in text), default=len(text))]


class Scorer(TemplateLM):
    """What ours and engines from elsewhere share: all but how likely tokens are and what is written next.

    With a `mark`, that token stands before every prompt. Answers are `kept` as they come. After a run,
    `tokens` knows how long each continuation was, and `cut` which prompts did not fit in the context whole.
    """

    tokenizer_name = "journey"

    def __init__(self, n_ctx: int, mark: int | None, kept: Kept | None, progress: Progress) -> None:
        super().__init__()
        self.n_ctx, self.mark, self.kept, self.progress = n_ctx, mark, kept or Kept(None), progress
        self.tokens: dict[Pair, int] = {}
        self.cut: set[str] = set()
        self.stderr: TextIO = sys.stderr
        self.rendered: dict[str, list[int]] = {}  # conversations as text -> their ids
        self.encoded = lru_cache(4096)(self.encode)  # the options of an item share a context

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text, nothing added."""

    @abstractmethod
    def converse(self, messages: Sequence[dict[str, Any]], answer: bool) -> list[int]:
        """The ids of a conversation, up to where its next answer begins, or to where its last one breaks off."""

    @abstractmethod
    def score(self, asked: Sequence[Continuation], done: Done) -> None:
        """Tells `done` how likely each continuation is, some at a time."""

    @abstractmethod
    def write(self, prompts: list[list[int]], numbers: list[int], how: Writing) -> list[str]:
        """What is written after each prompt, up to an end of it. A prompt's number says which random numbers are
        drawn."""

    # What the harness asks for.

    @property
    def eot_token_id(self) -> int:
        return self.prefix_token_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        if string in self.rendered:
            return self.rendered[string]
        if self.mark is None or add_special_tokens is False:
            return self.encoded(string)
        return [self.mark, *self.encoded(string)]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context in self.rendered:  # ends in a special token, across which nothing merges
            return self.rendered[context], self.encoded(continuation)
        return super()._encode_pair(context, continuation)

    def apply_chat_template(self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        """A name for the conversation. Its ids come from the messages, in which a special token's spelling is text."""
        name = "".join(f"{chat.mark(m['role'])}{m['content']}" for m in chat_history)
        name += chat.mark("assistant") if add_generation_prompt else ""
        self.rendered[name] = self.converse(chat_history, add_generation_prompt)
        return name

    def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The harness's requests are (pair, ids of the context, ids of the continuation)."""
        found: dict[int, Likelihood] = {}
        keys = [digest(["likelihood", [*context], [*ids]]) for _, context, ids in requests]
        for i, (_, _, ids) in enumerate(requests):
            if keys[i] in self.kept:
                found[i] = Likelihood(**self.kept[keys[i]])
            elif not ids:
                found[i] = Likelihood(0.0, True, 0)  # an empty continuation is certain
        todo = [i for i in range(len(requests)) if i not in found]

        def done(places: list[int], new: list[Likelihood]) -> None:
            now = {todo[place]: each for place, each in zip(places, new, strict=True)}
            found.update(now)
            self.kept.add({keys[i]: asdict(each) for i, each in now.items()})
            self.progress(len(found), len(requests), "options")

        with contextlib.redirect_stderr(self.stderr):  # the harness's own bars are silenced, ours is not
            self.score([Continuation(context, ids) for _, context, ids in (requests[i] for i in todo)], done)
        for i, (pair, _, ids) in enumerate(requests):
            self.tokens[pair] = len(ids)
            if found[i].cut:
                self.cut.add(pair[0])
        return [(found[i].logprob, found[i].greedy) for i in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """ln p of each whole text, in windows of the context that do not overlap."""
        windows, ends = list[tuple[Pair, list[int], list[int]]](), [0]
        for request in requests:
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            made = get_rolling_token_windows(ids, self.prefix_token_id, self.n_ctx, 1)
            windows += [(("", ""), *make_disjoint_window(window)) for window in made]
            ends.append(len(windows))
        each = [logprob for logprob, _ in self._loglikelihood_tokens(windows)]
        return [sum(each[a:b]) for a, b in itertools.pairwise(ends)]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What is written after each prompt, up to the first of its `until` strings. An answer may be as long as the
        task says, or half of the context where that is less; a prompt too long beside it loses its beginning."""
        asked: list[tuple[list[int], Writing]] = []
        for request in requests:
            how = Writing.of(request.args[1], self.n_ctx // 2)
            ids = self.tok_encode(request.args[0])
            if len(ids) > self.n_ctx - how.n:
                self.cut.add(request.args[0])
            asked.append((ids[-(self.n_ctx - how.n) :], how))
        times = Counter[str]()
        keys = []
        for ids, how in asked:
            same = digest(["written", ids, asdict(how)])
            keys.append(f"{same}-{times[same]}")  # the first answer to it, the second, …
            times[same] += 1
        todo = [i for i in range(len(asked)) if keys[i] not in self.kept]
        todo.sort(key=lambda i: (str(asked[i][1]), len(asked[i][0])))
        with contextlib.redirect_stderr(self.stderr):
            while todo:
                how = asked[todo[0]][1]
                batch = [i for i in todo[:AT_ONCE] if asked[i][1] == how]
                todo = todo[len(batch) :]
                written = self.write([asked[i][0] for i in batch], batch, how)
                texts = [how.shortened(text) for text in written]
                self.kept.add({keys[i]: {"text": text} for i, text in zip(batch, texts, strict=True)})
                self.progress(len(asked) - len(todo), len(asked), "answers")
        return [self.kept[key]["text"] for key in keys]


class Reworded(LM):
    """Another model, asked with every prompt changed by a rule (`suite.variants`): typos, capitals, spaces. Worked
    examples, which stand before the last blank line, stay as they are."""

    def __init__(self, lm: Any, kind: str) -> None:
        super().__init__()
        self.lm, self.kind = lm, kind
        self.changed: set[str] = set()  # prompts that the rule changes

    @property
    def tokenizer_name(self) -> str:
        return str(self.lm.tokenizer_name)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return list(self.lm.loglikelihood([self._changed(request) for request in requests]))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        return list(self.lm.loglikelihood_rolling([self._changed(request) for request in requests]))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        return list(self.lm.generate_until([self._changed(request) for request in requests]))

    def _changed(self, request: Instance) -> Instance:
        before, blank, asked = request.args[0].rpartition("\n\n")
        said = before + blank + perturbed(asked, self.kind, asked)
        if said != request.args[0]:
            self.changed.add(request.args[0])
        return Instance(request.request_type, request.doc, (said, *request.args[1:]), request.idx)


def check_chat(tokenizer: Tokenizer, name: str) -> None:
    """JourneyError for a tokenizer that was not made for the chat format."""
    if missing := [token for token in chat.SPECIALS if token not in tokenizer.special]:
        raise JourneyError(f"{name} has no {missing[0]}: leave out chat, or name a model that was made for it")


class Tokenized(Scorer):
    """What engines share that are asked by the ids of one of our tokenizers."""

    tokenizer: Tokenizer

    @property
    def prefix_token_id(self) -> int:
        return self.tokenizer.bos

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def converse(self, messages: Sequence[dict[str, Any]], answer: bool) -> list[int]:
        ids, _ = chat.render(messages, self.tokenizer, add_generation_prompt=answer)
        return ids if answer else ids[:-1]


class Ours(Tokenized):
    """A model of ours: contexts that options share are computed once."""

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        *,
        mark: bool = False,
        kept: Kept | None = None,
        progress: Progress = lambda *_: None,
    ) -> None:
        super().__init__(model.config.n_ctx, tokenizer.bos if mark else None, kept, progress)
        self.model, self.tokenizer = model, tokenizer

    def score(self, asked: Sequence[Continuation], done: Done) -> None:
        likelihoods(self.model, asked, done)

    def write(self, prompts: list[list[int]], numbers: list[int], how: Writing) -> list[str]:
        found = generate(
            self.model,
            prompts,
            max_new_tokens=how.n,
            stop=self.tokenizer.stop,
            sampling=how.sampling,
            numbers=numbers,
            until=how.ends(self.tokenizer.words),
        )
        return [self.tokenizer.words(each.ids) for each in found]
