"""Every reader on files that were damaged at random: none may crash, hang or fill the memory.

    python benchmarks/fuzz.py [--seconds 10] [--seed 0] [--only NAME]
    python benchmarks/fuzz.py --guided      inputs that reach new code are kept and changed further (needs atheris)

Real files of every kind are made, and changed: cut off, bytes turned, parts repeated or left out, values of JSON
replaced. Each reader reads them in a process of its own. What it may do: read the file, or raise JourneyError, in one
line. The last line is JSON.
"""

import argparse
import contextlib
import copy
import gzip
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journey.errors import JourneyError
from journey.lineage import peak_memory, reset_peak_memory

SLOWEST = 10.0  # seconds that a file may take
MOST = 1e9  # bytes that it may take beside what the process has already
BYTES = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b'"',
    b"[",
    b"{",
    b"\\ud83d",
    b"\n",
    b"\r",
    b"9" * 5000,
    b"-1",
    b"1e999",
    b"../",
)
VALUES = (
    None,
    True,
    -1,
    0,
    2**31,
    10**12,
    10**400,
    1.5,
    float("inf"),
    "",
    "x" * 300,
    "\0",
    "../../x",
    "\ud83d",
    [],
    {},
)


@dataclass
class Reader:
    """A function that reads a file or a folder, and what it should be able to read: the seeds."""

    read: Callable[[Path], Any]
    seed: Path  # a file, or a folder of which one file at a time is changed
    skip: tuple[str, ...] = ()  # files of the folder that stay as they are


@dataclass
class Outcome:
    """What came of a reader's files."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    memory: float = 0.0
    faults: list[str] = field(default_factory=list)


def changed(data: bytes, rng: random.Random) -> bytes:
    """The bytes of a file, damaged in one to three places."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not data:
            return rng.choice(BYTES)
        at = rng.randrange(len(data))
        end = min(len(data), at + rng.choice((1, 2, 8, 64, 1024)))
        match rng.randrange(6):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
            case 2:
                data = data[:at] + data[end:]
            case 3:
                data = data[:at] + data[at:end] * rng.choice((2, 50)) + data[end:]
            case 4:
                data = data[:at] + rng.choice(BYTES) + data[at:]
            case 5:
                data = data[:at] + rng.randbytes(end - at) + data[end:]
    return data


def changed_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one of those in it replaced, left out, or nested deeply."""
    value = copy.deepcopy(value)
    inside: list[tuple[Any, Any]] = []

    def walk(found: Any) -> None:
        keys = list(found) if isinstance(found, dict) else range(len(found)) if isinstance(found, list) else ()
        for key in keys:
            inside.append((found, key))
            walk(found[key])

    walk(value)
    if not inside:
        return rng.choice(VALUES)
    holder, key = rng.choice(inside)
    match rng.randrange(5):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1:
            holder[key] = [holder[key]]
        case 2:
            for _ in range(rng.choice((3, 900))):
                holder[key] = [holder[key]]
        case _:
            holder[key] = rng.choice(VALUES)
    return value


def damage(file: Path, rng: random.Random) -> None:
    """Change a file in place: as JSON where it is, now and then, else as bytes."""
    data = file.read_bytes()
    with contextlib.suppress(ValueError, RecursionError, UnicodeDecodeError):
        if file.suffix in (".json", ".jsonl") and rng.random() < 0.7:
            lines = data.decode().splitlines() if file.suffix == ".jsonl" else [data.decode()]
            at = rng.randrange(len(lines))
            lines[at] = json.dumps(changed_value(json.loads(lines[at]), rng))
            file.write_text("\n".join(lines), encoding="utf-8")
            return
    if file.suffix == ".gz" and rng.random() < 0.7:
        file.write_bytes(gzip.compress(changed(gzip.decompress(data), rng)))
    else:
        file.write_bytes(changed(data, rng))


def attempt(reader: Reader, place: Path, seed: str) -> tuple[str, str]:
    """Damage a copy of the seed and read it: what came of it, and the traceback of a fault."""
    rng = random.Random(seed)
    shutil.rmtree(place, ignore_errors=True)
    if reader.seed.is_dir():
        shutil.copytree(reader.seed, place)
        files = sorted(f for f in place.rglob("*") if f.is_file() and f.name not in reader.skip)
        damage(rng.choice(files), rng)
        target = place
    else:
        place.mkdir()
        target = place / reader.seed.name
        shutil.copy(reader.seed, target)
        damage(target, rng)
    return outcome_of(reader, target)


def outcome_of(reader: Reader, target: Path) -> tuple[str, str]:
    """What comes of reading a file or folder, and the traceback of a fault."""
    try:
        reader.read(target)
    except JourneyError as error:
        return ("refused", "") if "\n" not in str(error) else ("fault", f"more than one line: {error}")
    except OSError as error:  # the command line makes a line of what the system says
        return ("refused", "") if error.errno else ("fault", traceback.format_exc())
    except BaseException:
        return "fault", traceback.format_exc()
    return "read", ""


def work(reader: Reader, place: Path, seeds: list[str], until: float, said: Any) -> None:
    """The child: one file after the other; each is announced before it is read, so that the parent knows the last."""
    sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (a child's, which ends with it)
    for seed in seeds:
        if time.monotonic() > until:
            break
        said.send((seed, None))
        reset_peak_memory()
        before, start = peak_memory(), time.monotonic()
        came, trace = attempt(reader, place, seed)
        said.send((seed, (came, trace, time.monotonic() - start, peak_memory() - before)))
    said.send(None)


def fuzz(name: str, reader: Reader, scratch: Path, n: int, seconds: float, seed: int = 0) -> Outcome:
    """Read up to `n` damaged files within so many seconds, in children that are replaced when they crash or hang."""
    outcome, seeds, until = Outcome(), [f"{seed}:{name}:{i}" for i in range(n)], time.monotonic() + seconds
    while seeds and time.monotonic() < until:
        scratch.mkdir(exist_ok=True)
        mine, theirs = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            target=work, args=(reader, scratch / name, seeds, until, theirs), daemon=True
        )
        child.start()
        theirs.close()
        last, done = "", False
        while True:
            try:
                if not mine.poll(SLOWEST):
                    outcome.counts["hang"] += 1
                    outcome.faults.append(f"{last}: more than {SLOWEST:.0f} s")
                    child.kill()
                    break
                message = mine.recv()
            except EOFError:
                outcome.counts["crash"] += 1
                outcome.faults.append(f"{last}: the process ended with {child.exitcode}")
                break
            if message is None:
                done = True
                break
            last, result = message
            if result:
                came, trace, took, memory = result
                outcome.counts[came] += 1
                outcome.slowest, outcome.memory = max(outcome.slowest, took), max(outcome.memory, memory)
                if memory > MOST:
                    outcome.counts["memory"] += 1
                    outcome.faults.append(f"{last}: {memory / 1e9:.1f} GB")
                if trace:
                    outcome.faults.append(f"{last}: {trace}")
        child.join(1)
        mine.close()
        seeds = [] if done else seeds[seeds.index(last) + 1 :] if last else []
    return outcome


def guided(name: str, reader: Reader, scratch: Path, seconds: float) -> Outcome:
    """Fuzz the files of a reader's seed, one after the other, by what of our code they reach; a child for each."""
    outcome, place = Outcome(), scratch / "guided"
    shutil.rmtree(place, ignore_errors=True)
    if reader.seed.is_dir():
        shutil.copytree(reader.seed, place)
    else:
        place.mkdir()
        shutil.copy(reader.seed, place)
    files = sorted(f for f in place.rglob("*") if f.is_file() and f.name not in reader.skip)
    for file in files:
        good, corpus = file.read_bytes(), scratch / "corpus"
        shutil.rmtree(corpus, ignore_errors=True)
        corpus.mkdir()
        (corpus / "seed").write_bytes(good)
        told = scratch / "told.jsonl"
        told.write_text("")
        target = place if reader.seed.is_dir() else file
        child = multiprocessing.get_context("fork").Process(
            target=guide, args=(reader, target, file, corpus, told, seconds / len(files)), daemon=True
        )
        child.start()
        child.join(seconds / len(files) + 60)
        if child.is_alive() or child.exitcode:
            child.kill()
            outcome.counts["crash"] += 1
            outcome.faults.append(f"{file.name}: the process ended with {child.exitcode}")
        for line in told.read_text().splitlines():
            came, trace = json.loads(line)
            outcome.counts[came] += 1
            outcome.faults += [f"{file.name}: {trace}"] * bool(trace)
        file.write_bytes(good)
    return outcome


def guide(reader: Reader, target: Path, file: Path, corpus: Path, told: Path, seconds: float) -> None:
    """The child: libFuzzer's loop, which does not return."""
    import atheris

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for module in [module for name, module in sys.modules.items() if name.startswith("journey.")]:
        for found in vars(module).values():
            if callable(found) and getattr(found, "__module__", "") == module.__name__ and hasattr(found, "__code__"):
                atheris.instrument_func(found)

    def one(data: bytes) -> None:
        file.write_bytes(data)
        with told.open("a") as said:
            said.write(json.dumps(outcome_of(reader, target)) + "\n")

    limits = (
        f"-max_total_time={max(1, round(seconds))}",
        f"-timeout={SLOWEST:.0f}",
        f"-max_len={file.stat().st_size + 4096}",
    )
    atheris.Setup(["fuzz", str(corpus), *limits, f"-artifact_prefix={corpus}/"], one)
    atheris.Fuzz()


def messages(i: int) -> list[dict[str, str]]:
    """A conversation."""
    return [{"role": "user", "content": f"question {i}?"}, {"role": "assistant", "content": f"answer {i} — é 你."}]


def write_lines(path: Path, rows: list[Any]) -> Path:
    """JSON lines, packed where the name ends in .gz."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def readers(folder: Path) -> Iterator[tuple[str, Reader]]:
    """Every reader with its seed, which is made in the folder."""
    import pyarrow
    import pyarrow.parquet
    import torch
    from safetensors.torch import save_file

    from journey import recipe, runner
    from journey.checkpoint import open_node, open_tokenizer
    from journey.data import conversations, hubset, mixture, preferences, sources, translations, vocabularies
    from journey.data.cutting import Cut
    from journey.data.shards import open_shards
    from journey.data.source import Notes
    from journey.files import read_json
    from journey.model import foreign, huggingface, marian
    from journey.model.config import GPTConfig
    from journey.model.families import FAMILIES
    from journey.model.gpt import GPT
    from journey.model.seq2seq import Seq2Seq, Seq2SeqConfig
    from journey.retrieve.index import Index as Opened
    from journey.stages.index import Index, index
    from journey.stages.prepare import Prepare, prepare
    from journey.stages.run import Run
    from journey.stages.text import Text, text
    from journey.tokenizer.formats import Tokenizer

    def documents(path: Path) -> None:
        for _ in sources.read(str(path)):
            pass

    rows = [{"text": f"Document {i} speaks of é, 你 and \U0001f600.\r\n" * 9} for i in range(40)]
    plain = "\n\n".join(row["text"] for row in rows)
    for ending, data in (
        (".txt", plain.encode()),
        (".md", plain.encode("utf-16")),
        (".json", json.dumps(rows).encode()),
    ):
        (folder / f"text{ending}").write_bytes(data)
    write_lines(folder / "text.jsonl", rows)
    write_lines(folder / "text.jsonl.gz", rows)
    compressed = pyarrow.compress((folder / "text.jsonl").read_bytes(), codec="zstd", asbytes=True)
    (folder / "text.jsonl.zst").write_bytes(compressed)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "text.parquet")
    for ending in (".txt", ".md", ".json", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"):
        yield f"text{ending}", Reader(documents, folder / f"text{ending}")

    def streamed(path: Path) -> None:
        with path.open("rb") as file:
            for _ in sources.own_documents("f", path, file, Notes(), Cut(), strict=False, fixed=True):
                pass

    for ending in (".jsonl.zst", ".parquet"):
        yield f"Hub's rows{ending}", Reader(streamed, folder / f"text{ending}")
    splits = [{"split": "train", "path": "sample/10BT/*"}, {"split": "test", "path": ["data/**", "x.jsonl"]}]
    configs = [{"config_name": "en", "default": True, "data_files": splits}, {"config_name": "de", "data_dir": "de"}]
    names = ["sample/10BT/000.parquet", "data/a/b.jsonl.zst", "x.jsonl", "de/train-0.parquet", "README.md"]
    listing = {"commit": "0" * 40, "files": names, "configs": configs}
    (folder / "listing.json").write_text(json.dumps(listing))
    yield "Hub's listing", Reader(lambda path: hubset.chosen("hub:o/set", read_json(path)), folder / "listing.json")
    (folder / "mixture.txt").write_text("docs=0.7,code=3e-1,my/texts=2")
    yield "mixture", Reader(lambda path: mixture.parse(path.read_text(errors="replace")), folder / "mixture.txt")

    talks = [
        *({"messages": messages(i)} for i in range(20)),
        *(
            {"instruction": f"q{i}", "input": "x", "output": "a", "system": "s", "history": [["a", "b"]]}
            for i in range(9)
        ),
        *({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": f"a{i}"}]} for i in range(9)),
    ]
    pairs = [
        *({"prompt": f"q{i}", "chosen": f"good {i}", "rejected": "bad"} for i in range(9)),
        *({"chosen": messages(i), "rejected": [messages(i)[0], messages(99)[1]]} for i in range(9)),
        *(
            {"chosen": f"\n\nHuman: q{i}\n\nAssistant: a", "rejected": f"\n\nHuman: q{i}\n\nAssistant: b"}
            for i in range(9)
        ),
    ]
    for what, load, records in (
        ("conversations", conversations.load, talks),
        ("preferences", preferences.load, pairs),
    ):
        write_lines(folder / f"{what}.jsonl", records)
        (folder / f"{what}.json").write_text(json.dumps(records))
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records[:9]), folder / f"{what}.parquet")
        for ending in (".jsonl", ".json", ".parquet"):
            yield f"{what}{ending}", Reader(load, folder / f"{what}{ending}")

    both = [
        *({"source": f"s{i}", "target": f"t {i}"} for i in range(9)),
        *({"translation": {"en": f"a {i}", "de": f"b {i}"}, "id": i} for i in range(9)),
    ]
    write_lines(folder / "translations.jsonl", both)
    yield "translations.jsonl", Reader(lambda path: translations.load(str(path)), folder / "translations.jsonl")

    merges = [("a", "b"), ("Ġ", "t"), ("Ġt", "h"), ("ab", "c")]
    tokenizer = Tokenizer.from_merges(merges)
    torch.manual_seed(0)
    models: dict[str, GPT] = {}
    for family in FAMILIES:
        models[family] = GPT(GPTConfig.make(family, tokenizer.n_ids, 16, 1, 32))
        huggingface.save(models[family], folder / family, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
        tokenizer.save(folder / family)
        yield f"model {family}", Reader(lambda path: (huggingface.load(path), open_tokenizer(path)), folder / family)
        yield f"import {family}", Reader(lambda path: foreign.read(path), folder / family)
    shape = Seq2SeqConfig(tokenizer.n_ids, 16, 1, 1, 1, 16, 16, tokenizer.pad)
    marian.save(Seq2Seq(shape), folder / "marian", start=tokenizer.bos, eos=tokenizer.eos)
    yield "model marian", Reader(lambda path: marian.load(path), folder / "marian")
    (folder / "two").mkdir()
    state = json.loads(tokenizer.backend.to_str())["model"]
    (folder / "two" / "vocab.json").write_text(json.dumps(tokenizer.backend.get_vocab(with_added_tokens=True)))
    (folder / "two" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in state["merges"]))
    (folder / "two" / "added_tokens.json").write_text(json.dumps({"<|role|>": tokenizer.n_ids}))
    yield "tokenizer of two files", Reader(lambda path: Tokenizer.load(path).encode("abc the"), folder / "two")
    tokenizer.save_tiktoken(folder / "ranks.tiktoken")
    yield "tokenizer of ranks", Reader(lambda path: Tokenizer.load(path).encode("abc"), folder / "ranks.tiktoken")

    plain_names = huggingface.tensors(models["gpt2"])
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 32, "block_size": 16, "vocab_size": tokenizer.n_ids}
    linear = {n: t.t().contiguous() if t.dim() == 2 and ".c_" in n else t for n, t in plain_names.items()}
    torch.save({"model": linear, "model_args": sizes, "iter_num": 3, "config": {}}, folder / "ckpt.pt")
    yield "nanoGPT's checkpoint", Reader(lambda path: foreign.read(path), folder / "ckpt.pt")
    save_file({n: t.contiguous() for n, t in plain_names.items()}, folder / "bare.safetensors")
    yield "bare tensors", Reader(lambda path: foreign.read(path, "gpt2", n_head=1), folder / "bare.safetensors")
    characters = sorted(set("abc é你\n"))
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters))}
    meta["stoi"] = {c: i for i, c in enumerate(characters)}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    yield "nanoGPT's characters", Reader(lambda path: vocabularies.find(None, str(path)), folder / "meta.pkl")

    write_lines(folder / "source.jsonl", [{"text": f"Number {i} is told of in {i * 7919} words."} for i in range(60)])
    node = text(None, Text(source=str(folder / "source.jsonl")), Run(folder / "node"))
    yield "node", Reader(lambda path: open_node(path).parents, node.path)
    tokens = prepare(open_node(folder / "gpt2"), Prepare(data=str(node.path)), Run(folder / "tokens"))

    yield "shards", Reader(lambda path: open_shards(path, "train", tokenizer), tokens.path, skip=("lineage.json",))
    made = index(open_node(folder / "gpt2"), Index(data=str(node.path), embedder="node"), Run(folder / "index"))
    opened = (huggingface.load(folder / "gpt2"), tokenizer)
    yield "index", Reader(lambda path: Opened(path, *opened).search("number 7", 5), made.path, skip=("lineage.json",))

    life = "name: x\nstages:\n- {name: docs, stage: text, with: {source: stdlib-code}}\n- name: t\n  stage: tokenizer\n"
    (folder / "life.yaml").write_text(life + "  with: {data: docs, vocab_size: 1e3}\n")
    yield "recipe", Reader(lambda path: recipe.read(path), folder / "life.yaml")
    stages = [{"name": "docs", "stage": "text", "id": "a" * 64, "path": "nodes/docs", "parents": [], "data": []}]
    (folder / "place").mkdir()
    plan = {"format": runner.FORMAT, "recipe": "x", "seed": 0, "stages": stages, "measure": {}, "expect": {}}
    (folder / "place" / "plan.json").write_text(json.dumps(plan))
    yield "plan", Reader(lambda path: runner.read_plan(path), folder / "place")


def grouped(faults: list[str]) -> dict[str, list[str]]:
    """The files that led to a fault, by what was raised and the last place of ours that it came through."""
    found: dict[str, list[str]] = {}
    for fault in faults:
        lines = [line.strip() for line in fault.splitlines() if line.strip()]
        ours = [line for line in lines if "/journey/" in line and line.startswith("File")]
        where = f"{lines[-1][:120]} | {ours[-1].rpartition('/journey/')[2] if ours else ''}"
        found.setdefault(where, []).append(lines[0].partition(": Traceback")[0][:200])
    return found


def main() -> None:
    """Fuzz every reader and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="for each reader")
    parser.add_argument("--files", type=int, default=100_000, help="at most, for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris")
    asked = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    totals, faults = Counter[str](), []
    with tempfile.TemporaryDirectory() as folder:
        seeds, scratch = Path(folder) / "seeds", Path(folder) / "scratch"
        seeds.mkdir()
        scratch.mkdir()
        print(f"{'reader':<24} {'files':>7} {'read':>7} {'refused':>7} {'faults':>7} {'slowest':>9} {'memory':>8}")
        for name, reader in list(readers(seeds)):
            if asked.only not in name:
                continue
            if asked.guided:
                found = guided(name, reader, scratch, asked.seconds)
            else:
                found = fuzz(name, reader, scratch, asked.files, asked.seconds, asked.seed)
            n = sum(found.counts[kind] for kind in ("read", "refused", "fault", "hang", "crash"))
            bad = n - found.counts["read"] - found.counts["refused"] + found.counts["memory"]
            print(
                f"{name:<24} {n:>7,} {found.counts['read']:>7,} {found.counts['refused']:>7,} {bad:>7,} "
                f"{found.slowest * 1e3:>6.0f} ms {found.memory / 1e6:>5.0f} MB",
                flush=True,
            )
            totals += Counter({"files": n, "faults": bad}) + found.counts
            faults += [f"{name}, {fault}" for fault in found.faults]
    for where, alike in grouped(faults).items():
        print(f"\n{len(alike)} x {where}, as with {alike[0]}")
    print(json.dumps(totals))


if __name__ == "__main__":
    main()
