"""Cutting a corpus into words by a split pattern and counting them, spread over processes.

The pattern is slow (`regex` cuts 10 MB/s) and text repeats itself. So a text is first cut at its single spaces, which
Arrow does and counts in C++, and the pattern then cuts each different chunk once. The words are those of the whole
text, because no match of our patterns crosses a space that follows a character other than white space.
"""

import json
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import IO, Any, Protocol, cast

import pyarrow as pa
import pyarrow.compute as pc

from journey import child
from journey.errors import JourneyError
from journey.files import read_json, write_text
from journey.tokenizer.codec import check, splitter

HIDDEN = "\0"  # a space at which a text is not cut
WHITE = [char for char in map(chr, range(0x3001)) if char.isspace() and char != " "]
ODD = f"{HIDDEN}|^$|[{''.join(WHITE)}]$"  # chunks that would not come apart again if they were joined by spaces
BATCH = 8 << 20  # characters that a process counts at once, in about ten times as many bytes
ROUND = 2 << 30  # characters after which counts are saved: about a minute on two cores


@dataclass(frozen=True)
class Saved:
    """A file that keeps counts for a call that is killed; `input` says which texts and pattern they are of."""

    path: Path
    input: str

    def load(self) -> tuple[Counter[str], int, bool]:
        """The counts, of how many texts they are, and whether those are all."""
        state = read_json(self.path) if self.path.exists() else {}
        if state.get("input") != self.input:
            return Counter(), 0, False
        return Counter(state["words"]), state["texts"], state["complete"]

    def write(self, words: Counter[str], texts: int, complete: bool) -> None:
        """Put these counts in the place of the earlier ones."""
        state = {"input": self.input, "texts": texts, "complete": complete, "words": words}
        write_text(self.path, json.dumps(state, ensure_ascii=False))


def count_words(
    texts: Iterable[str],
    pattern: str = "gpt2",
    processes: int = 1,
    saved: Saved | None = None,
    progress: Callable[[int], None] | None = None,
) -> Counter[str]:
    """How often each piece of the split pattern occurs in the texts, the same for any number of processes.

    Memory grows with the different words, not with the texts. With `saved`, counts go to a file now and then, and a
    call after a kill takes them from there: the texts must come in the same order. `progress(n)` is called when `n`
    texts are counted. A lone surrogate in a text raises JourneyError.
    """
    words, n_texts, complete = saved.load() if saved else (Counter[str](), 0, False)
    if complete:
        return words
    batches = _batches(islice(texts, n_texts, None))
    first = list(islice(batches, 2))
    with ExitStack() as stack:
        workers: list[_Worker] = [WordCounter(pattern)]
        if processes > 1 and len(first) > 1:  # a process starts in half a second, a batch takes about as long
            workers = [stack.enter_context(_Process(pattern)) for _ in range(processes)]
        n_chars, save_at = 0, ROUND
        turns = cycle(workers)
        for batch in chain(first, batches):
            next(turns).add(batch)
            n_texts += len(batch)
            n_chars += sum(map(len, batch))
            if progress:
                progress(n_texts)
            if saved and n_chars >= save_at:
                _gather(words, workers)
                saved.write(words, n_texts, complete=False)
                save_at = n_chars + ROUND
        _gather(words, workers)
    if saved:
        saved.write(words, n_texts, complete=True)
    return words


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, about BATCH characters at a time."""
    batch, size = list[str](), 0
    for text in texts:
        batch.append(check(text))
        size += len(batch[-1])
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Worker(Protocol):
    def add(self, texts: list[str]) -> None: ...
    def finish(self) -> None: ...
    def take(self) -> Counter[str]: ...


def _gather(words: Counter[str], workers: list[_Worker]) -> None:
    for worker in workers:
        worker.finish()
    for worker in workers:
        for word, count in worker.take().items():
            words[word] += count


class WordCounter:
    """Counts words in this process."""

    def __init__(self, pattern: str) -> None:
        self._findall = splitter(pattern).findall
        self._words: Counter[str] = Counter()

    def add(self, texts: list[str]) -> None:
        """Count the words of these texts."""
        for text in texts:
            if HIDDEN in text:  # it holds the mark itself: cut as a whole
                self._words.update(self._findall(text))
        if texts := [text for text in texts if HIDDEN not in text]:
            self._cut(pc.value_counts(self._split(texts)))

    def _split(self, texts: list[str]) -> pa.LargeStringArray:
        """The texts cut at each space that follows a character other than white space, which is left out."""
        cut = pa.array(texts, pa.large_string())
        cut = pc.replace_substring(cut, "  ", " " + HIDDEN)
        cut = pc.replace_substring(cut, HIDDEN + " ", HIDDEN + HIDDEN)
        for white in WHITE:
            if any(white in text for text in texts):
                cut = pc.replace_substring(cut, white + " ", white + HIDDEN)
        cut = pc.split_pattern(cut, " ")
        for chunk in pc.list_element(cut, 0).to_pylist():  # `_cut` puts a space before each, also the first of a text
            chunk = chunk.replace(HIDDEN, " ")
            self._words.update(self._findall(chunk))
            self._words.subtract(self._findall(" " + chunk))
        return cut.flatten()

    def _cut(self, counted: pa.StructArray) -> None:
        """Cut each chunk, with the space that stood before it, into words."""
        findall, words = self._findall, self._words
        odd = pc.match_substring_regex(counted.field(0), ODD)
        for chunk, count in zip(*_columns(counted.filter(odd)), strict=True):
            for word in findall(" " + chunk.replace(HIDDEN, " ")):
                words[word] += count
        chunks, counts = _columns(counted.filter(pc.invert(odd)))
        count, following = 0, iter(counts)
        for word in findall(" ".join(["", *chunks])):  # one call for all: a space begins the next chunk
            if word[0] == " ":
                count = next(following)
            words[word] += count

    def finish(self) -> None:
        """Nothing is left to do: `add` has counted."""

    def take(self) -> Counter[str]:
        """The words counted since the last call."""
        words, self._words = +self._words, Counter()
        return words


def _columns(counted: pa.StructArray) -> tuple[list[str], list[int]]:
    chunks, counts = counted.flatten()
    return chunks.to_pylist(), counts.to_pylist()


class _Process:
    """Counts words in a process of its own, which ends by itself when this one is killed: its pipe breaks."""

    def __init__(self, pattern: str) -> None:
        splitter(pattern)
        self._process = subprocess.Popen(
            child.command(__name__, pattern),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child.surroundings(),
            process_group=0,  # Ctrl-C is for the parent
        )

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def add(self, texts: list[str]) -> None:
        """Hand over texts; returns when the process has taken them: it holds one batch more than it counts."""
        self._send(texts)

    def finish(self) -> None:
        """Say that counts will be asked for."""
        self._send(None)

    def take(self) -> Counter[str]:
        """Wait for the counts of the texts since the last call."""
        try:
            return cast(Counter[str], pickle.load(cast(IO[bytes], self._process.stdout)))
        except (EOFError, pickle.UnpicklingError):
            raise self._lost() from None

    def _send(self, message: list[str] | None) -> None:
        stdin = cast(IO[bytes], self._process.stdin)
        try:
            pickle.dump(message, stdin, pickle.HIGHEST_PROTOCOL)
            stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None

    def _lost(self) -> JourneyError:
        return JourneyError(
            f"a process that counts words ended (exit {self._process.wait()}), perhaps for want of memory: "
            "the same command goes on; free some memory, or use fewer processes"
        )


def _serve(pattern: str) -> None:
    """The process's side: counts the texts that come on stdin, and answers None with the counts."""
    pa.set_cpu_count(1)
    pa.set_memory_pool(pa.system_memory_pool())  # gives back at once what a batch needed: a third less memory
    counter, out = WordCounter(pattern), os.fdopen(os.dup(1), "wb")
    inbox: queue.Queue[Any] = queue.Queue(1)  # the next batch is here before the last one is counted
    threading.Thread(target=_receive, args=(inbox,), daemon=True).start()
    while (message := inbox.get()) is not EOFError:
        if message is None:
            pickle.dump(counter.take(), out, pickle.HIGHEST_PROTOCOL)
            out.flush()
        else:
            counter.add(message)


def _receive(inbox: "queue.Queue[Any]") -> None:
    try:
        while True:
            inbox.put(pickle.load(sys.stdin.buffer))
    except (EOFError, pickle.UnpicklingError):  # the parent has ended, perhaps within a message
        inbox.put(EOFError)


if __name__ == "__main__":
    _serve(sys.argv[1])
