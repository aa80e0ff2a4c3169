"""Encoding a text into token shards: `journey data prepare` as it is run, and the encoder alone on texts in memory.

    JOURNEY_DATA=… python benchmarks/prepare.py [--bytes 200000000] [--processes 2] [--rounds 3] [--characters 10000]

GPT-2's vocabulary and the books, cut into documents of --characters. A text node of them is made first (not timed).
Then in turn, on the same cores: `Tokenizer.encode_batch` over the training texts, all in memory, with as many threads
as cores, ids as Python lists; and the stage `prepare`: reading the node's parquet files, encoding, writing, hashing,
publishing. MB are 10⁶ bytes of UTF-8 of all that is encoded. The second includes about a second of loading GPT-2's
vocabulary, which the first has behind it. The shards' ids are compared with the encoder's. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from encoding import documents


def write_text_node(folder: Path, texts: list[str]) -> None:
    """A text node without the search for near-duplicates: a thousandth each for dev and test."""
    from journey.data.documents import write_parquet
    from journey.data.sources import Document
    from journey.files import digest, write_json

    held = max(1, len(texts) // 1000)
    splits = {"dev": texts[:held], "test": texts[held : 2 * held], "train": texts[2 * held :]}
    folder.mkdir()
    for split, some in splits.items():
        write_parquet(folder / f"{split}.parquet", [Document(str(i), text) for i, text in enumerate(some)])
    facts = {"name": "books", "source": "books", "fingerprint": digest(texts)}
    counts = {split: {"documents": len(some)} for split, some in splits.items()}
    write_json(folder / "corpus.json", facts | {"splits": counts})
    source = {"fingerprint": facts["fingerprint"]}
    lineage = {"id": digest(facts), "name": "books", "stage": "text", "parents": [], "data": {"source": source}}
    write_json(folder / "lineage.json", lineage)


def main() -> None:
    """Let the two take turns and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bytes", type=int, default=200_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--characters", type=int, default=10_000)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: args.processes]
    os.sched_setaffinity(0, cores)
    os.environ["TIKTOKEN_CACHE_DIR"] = ""

    import numpy as np

    from journey.data.corpus import Corpus
    from journey.data.shards import open_shards
    from journey.lineage import surroundings
    from journey.stages.prepare import Prepare, prepare
    from journey.stages.run import Run
    from journey.tokenizer.formats import Tokenizer

    seconds: dict[str, list[float]] = {"encoder": [], "prepare": []}
    busy: dict[str, list[float]] = {"encoder": [], "prepare": []}  # seconds of processor time
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "gpt2").mkdir()
        write_text_node(folder / "books", list(documents(args.bytes / 1e6, args.characters)))
        Tokenizer.load(Path(os.environ["JOURNEY_DATA"], "tokenizer", "gpt2")).with_chat_tokens().save(folder / "gpt2")
        tokenizer = Tokenizer.load(folder / "gpt2")
        corpus = Corpus(folder / "books")
        texts = [text for split in ("train", "dev", "test") for text in corpus.stream(split)]
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        machine = surroundings()["machine"]
        print(f"{machine['cpu']}, {len(cores)} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{len(texts):,} documents of {args.characters:,} characters, {megabytes:.1f} MB")
        tokenizer.encode_batch(texts[:100])
        for turn in range(args.rounds):
            for name, times in seconds.items():
                start, worked = time.perf_counter(), time.process_time()
                if name == "encoder":
                    ids = tokenizer.encode_batch(texts)
                else:
                    node = prepare(folder / "gpt2", Prepare(data=str(folder / "books")), Run(folder / f"tokens-{turn}"))
                times.append(time.perf_counter() - start)
                busy[name].append(time.process_time() - worked)
                if (
                    name == "encoder"
                ):  # two gigabytes of Python's lists, which its collector would search in the other's turn
                    n = corpus.facts["splits"]["train"]["documents"]
                    expected = np.fromiter(chain.from_iterable(ids[:n]), np.uint32)
                    del ids
            shards = open_shards(node.path, "train", tokenizer)
            found = np.concatenate([tokens for tokens, _ in shards])
            assert np.array_equal(found[found != tokenizer.bos], expected), "the ids differ"
            del expected, found, shards
    result = {}
    for name, times in seconds.items():
        median = statistics.median(times)
        result[name] = {"mb_per_second": megabytes / median, "cpu_seconds": statistics.median(busy[name])}
        cpu = result[name]["cpu_seconds"]
        print(
            f"{name:8} {megabytes / median:6.1f} MB/s, at best {megabytes / min(times):.1f}; {cpu:.2f} s of processor"
        )
    ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
    print(f"prepare runs at {ratio:.2f} of the encoder's speed")
    print(json.dumps({"results": result, "ratio": ratio, "megabytes": megabytes, "machine": machine}))


if __name__ == "__main__":
    main()
