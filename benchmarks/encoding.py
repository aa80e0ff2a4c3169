"""Encoding a batch of documents: our fast path, and the Rust cores of `tokenizers` and `tiktoken` alone.

    JOURNEY_DATA=… python benchmarks/encoding.py [--megabytes 50] [--processes 2] [--rounds 5] [--characters 10000]

GPT-2's vocabulary, the books cut into documents of --characters, and all in turn on the same cores, as many threads as
cores, ids as Python lists. Ours is `Tokenizer.encode_batch`: a check for lone surrogates and, where it gives the same
ids, tiktoken. All must give the same ids. MB are 10⁶ bytes of UTF-8. The last line is JSON.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def documents(megabytes: float, characters: int) -> Iterator[str]:
    """Books, cut, until there are so many megabytes."""
    import pyarrow.parquet

    left = megabytes * 1e6
    for file in sorted(Path(os.environ["JOURNEY_DATA"], "text", "books").glob("*.parquet")):
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(8, columns=["text"]):
            for book in batch["text"].to_pylist():
                for start in range(0, len(book), characters):
                    yield (document := book[start : start + characters])
                    if (left := left - len(document.encode())) <= 0:
                        return
    raise SystemExit(f"there are fewer than {megabytes} MB of books in JOURNEY_DATA")


def encoders(threads: int) -> dict[str, Callable[[list[str]], list[list[int]]]]:
    """Both with GPT-2's vocabulary, from the files in JOURNEY_DATA."""
    import tiktoken
    import tiktoken.load

    from journey.tokenizer.codec import PATTERNS
    from journey.tokenizer.formats import BOS, Tokenizer

    folder = Path(os.environ["JOURNEY_DATA"], "tokenizer", "gpt2")
    tokenizer = Tokenizer.load(folder)
    theirs = tiktoken.Encoding(
        "gpt2",
        pat_str=PATTERNS["gpt2"],
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(folder / "gpt2.tiktoken")),
        special_tokens={BOS: 50256},
    )
    return {
        "ours": tokenizer.encode_batch,
        "tokenizers": lambda texts: [
            e.ids for e in tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)
        ],
        "tiktoken": lambda texts: theirs.encode_ordinary_batch(texts, num_threads=threads),
    }


def main() -> None:
    """Let them take turns and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--characters", type=int, default=10_000)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: args.processes]
    os.sched_setaffinity(0, cores)
    # Read by the libraries when they are imported, and when they start their threads.
    os.environ |= {"RAYON_NUM_THREADS": str(len(cores)), "TOKENIZERS_PARALLELISM": "true", "TIKTOKEN_CACHE_DIR": ""}

    from journey.lineage import surroundings

    texts = list(documents(args.megabytes, args.characters))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    competitors = encoders(len(cores))
    versions = {name: importlib.metadata.version(name) for name in competitors if name != "ours"}
    machine = surroundings()["machine"]
    print(f"{machine['cpu']}, {len(cores)} cores, load {os.getloadavg()[0]:.1f}, {versions}")
    print(f"{len(texts):,} documents of {args.characters:,} characters, {megabytes:.1f} MB")
    first = [encode(texts[:100]) for encode in competitors.values()]  # also starts their threads
    assert first[0] == first[1] == first[2], "the ids differ"
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for _ in range(args.rounds):
        for name, encode in competitors.items():
            start = time.perf_counter()
            ids = encode(texts)
            seconds[name].append(time.perf_counter() - start)
            del ids
    result = {}
    for name, runs in seconds.items():
        result[name] = {"mb_per_second": megabytes / statistics.median(runs), "best": megabytes / min(runs)}
        print(f"{name:12} {result[name]['mb_per_second']:6.1f} MB/s, at best {result[name]['best']:.1f}")
    for name in versions:
        ratio = statistics.median(b / a for a, b in zip(seconds["ours"], seconds[name], strict=True))
        result[name]["ratio"] = ratio
        print(f"ours is {ratio:.2f} times as fast as {name}")
    print(json.dumps({"results": result, "megabytes": megabytes, "versions": versions} | {"machine": machine}))


if __name__ == "__main__":
    main()
