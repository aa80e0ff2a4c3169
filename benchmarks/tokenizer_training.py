"""Training a byte-level BPE on books: ours against `tokenizers`, `rustbpe` and the algorithm of minbpe.

    JOURNEY_DATA=… python benchmarks/tokenizer_training.py [--megabytes 50 200] [--vocab 32768] [--processes 2]

Each training is a fresh process on as many cores as --processes says, and they take turns. Seconds are those of the
whole process: start, imports, reading the parquet files, cutting into words, merging. Memory is the highest resident
size of the process and its workers together, looked at 50 times a second (Linux). `rustbpe` takes part where it is
installed; it breaks ties its own way. minbpe's algorithm (count every pair of the text anew for each merge, in Python)
would take days: its rounds are timed on 1 MB, the first ones and those at the end, and multiplied. The last line is
JSON.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from journey.lineage import surroundings
from journey.tokenizer.codec import PATTERNS

ROUNDS_OF_MINBPE = 5


def books(megabytes: int) -> Iterator[str]:
    """Books until there are so many megabytes of UTF-8; the last one is cut."""
    import pyarrow.parquet

    left = megabytes * 1_000_000
    for file in sorted(Path(os.environ["JOURNEY_DATA"], "text", "books").glob("*.parquet")):
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(8, columns=["text"]):
            for text in batch["text"].to_pylist():
                data = text.encode()[:left]
                left -= len(data)
                yield data.decode(errors="ignore")
                if not left:
                    return
    raise SystemExit(f"there are fewer than {megabytes} MB of books in JOURNEY_DATA")


def ours(megabytes: int, vocab: int, processes: int) -> list[tuple[str, str]]:
    from journey.tokenizer import bpe

    return bpe.train(bpe.count_words(books(megabytes), processes=processes), vocab, 0)


def with_tokenizers(megabytes: int, vocab: int, processes: int) -> list[tuple[str, str]]:
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(books(megabytes), trainer)
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def with_rustbpe(megabytes: int, vocab: int, processes: int) -> list[tuple[bytes, int]]:
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(books(megabytes), vocab, pattern=PATTERNS["gpt2"])
    return tokenizer.get_mergeable_ranks()


TRAINERS = {"ours": ours, "tokenizers": with_tokenizers, "rustbpe": with_rustbpe}


def train(name: str, megabytes: int, vocab: int, processes: int) -> None:
    """In a child: train, and print what it made."""
    made = TRAINERS[name](megabytes, vocab, processes)
    print(json.dumps({"merges": len(made), "sha256": hashlib.sha256(repr(made).encode()).hexdigest()}))


def minbpe(vocab: int) -> dict[str, float]:
    """Seconds of one round of minbpe's algorithm on 1 MB, at the beginning and when all merges are made."""
    from journey.tokenizer import bpe
    from journey.tokenizer.codec import Codec, splitter

    text = "".join(books(1))
    words = splitter("gpt2").findall(text)
    most = min(vocab, 8192)  # 1 MB has no more words to give
    codec = Codec(bpe.train(bpe.count_words([text]), most, 0))
    first, last = [list(word.encode()) for word in words], [codec.encode(word) for word in words]
    return {"first": _round(first), "last": _round(last)}


def _round(pieces: list[list[int]]) -> float:
    seconds = []
    for new in range(1_000_000, 1_000_000 + ROUNDS_OF_MINBPE):
        start = time.perf_counter()
        counts: Counter[tuple[int, int]] = Counter()
        for piece in pieces:
            for pair in pairwise(piece):
                counts[pair] += 1
        best = max(counts, key=counts.__getitem__)
        pieces = [_merge(piece, best, new) for piece in pieces]
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _merge(piece: list[int], pair: tuple[int, int], new: int) -> list[int]:
    merged, i = [], 0
    while i < len(piece):
        if i + 1 < len(piece) and (piece[i], piece[i + 1]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(piece[i])
            i += 1
    return merged


def timed(name: str, megabytes: int, vocab: int, processes: int) -> dict[str, float | str]:
    """One training in a fresh process."""
    command = [sys.executable, __file__, "--child", name, "--megabytes", str(megabytes), "--vocab", str(vocab)]
    limit = {"RAYON_NUM_THREADS": str(processes), "TOKENIZERS_PARALLELISM": "true"}
    cores = sorted(os.sched_getaffinity(0))[:processes]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--processes", str(processes)],
        stdout=subprocess.PIPE,
        env=os.environ | limit,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{name} failed")
    return {"seconds": seconds, "mb": peak / 1e6, **json.loads(process.communicate()[0])}


def resident(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold now (Linux); 0 for one that has just ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [c for file in Path(f"/proc/{pid}/task").glob("*/children") for c in file.read_text().split()]
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)


def main() -> None:
    """Let them take turns and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--vocab", type=int, default=32768)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", choices=TRAINERS)
    args = parser.parse_args()
    if args.child:
        return train(args.child, args.megabytes[0], args.vocab, args.processes)

    names = [name for name in TRAINERS if name == "ours" or importlib.util.find_spec(name)]
    versions = {name: importlib.metadata.version(name) for name in names if name != "ours"}
    machine = surroundings()["machine"]
    print(f"{machine['cpu']}, {args.processes} cores, load {os.getloadavg()[0]:.1f}, {versions}, {args.vocab} tokens")
    rounds = minbpe(args.vocab)
    results = {}
    for megabytes in args.megabytes:
        sizes: dict[str, list[dict]] = {name: [] for name in names}
        for _ in range(args.rounds):
            for name in names:
                sizes[name].append(timed(name, megabytes, args.vocab, args.processes))
        assert sizes["ours"][0]["sha256"] == sizes["tokenizers"][0]["sha256"], "the merges differ"
        print(f"\n{megabytes} MB, load {os.getloadavg()[0]:.1f}; ours and tokenizers: identical merges")
        result = {}
        for name, runs in sizes.items():
            seconds = statistics.median(run["seconds"] for run in runs)
            result[name] = {"seconds": seconds, "peak_mb": max(run["mb"] for run in runs)}
            ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(runs, sizes["ours"], strict=True))
            result[name]["ratio"] = ratio
            print(f"{name:12} {seconds:8.1f} s  {result[name]['peak_mb']:6.0f} MB  {ratio:5.2f} × ours")
        hours = [seconds * megabytes * (args.vocab - 256) / 3600 for seconds in (rounds["last"], rounds["first"])]
        print(f"minbpe       {hours[0]:.0f} to {hours[1]:.0f} hours: its rounds on 1 MB, multiplied")
        results[str(megabytes)] = result | {"minbpe": {"hours_low": hours[0], "hours_high": hours[1]}}
    print(json.dumps({"results": results, "vocab": args.vocab, "versions": versions, "machine": machine}))


if __name__ == "__main__":
    main()
