"""What a node says: continue or translate a text, chat, answer from an index."""

import dataclasses
import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from journey import runner
from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.fields import Amount, Count, NonNegative, Positive, Seed, Share, Within
from journey.lineage import surroundings
from journey.pair import open_seq2seq
from journey.verbs.common import Result, Workspace, find_model, home, open_model, translates

if TYPE_CHECKING:
    from journey.infer.sequence import Completion, Request
    from journey.xray.record import Run

TopP = Annotated[float, Within(above=0, most=1)]


def generate(
    node: Annotated[Positional[str], tyro.conf.arg(metavar="NODE")],
    prompt: Annotated[Positional[str], tyro.conf.arg(metavar="TEXT")],
    /,
    max_new_tokens: Annotated[Count, tyro.conf.arg(help="at most this many tokens")] = 100,
    temperature: Annotated[NonNegative, tyro.conf.arg(help="0 takes the likeliest token each time")] = 0.8,
    top_k: Annotated[Amount, tyro.conf.arg(help="only among the k likeliest (0: all)")] = 0,
    top_p: Annotated[TopP, tyro.conf.arg(help="only among the likeliest that make up this share")] = 1.0,
    min_p: Annotated[Share, tyro.conf.arg(help="only among those this times as likely as the likeliest")] = 0.0,
    repetition_penalty: Annotated[Positive, tyro.conf.arg(help="above 1: less of what is there already")] = 1.0,
    stop: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="TEXT", help="end before any of these (\\n is a line's end)")
    ] = (),
    json_schema: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE.json", help="write JSON that this schema allows")
    ] = None,
    regex: Annotated[str | None, tyro.conf.arg(help="write what this matches as a whole (Rust's syntax)")] = None,
    samples: Annotated[Count, tyro.conf.arg(help="so many texts, written together")] = 1,
    guess: Annotated[bool, tyro.conf.arg(help="try what followed last time, several tokens a pass: same text")] = False,
    beams: Annotated[Count, tyro.conf.arg(help="of an encoder–decoder: search with so many (1: greedily)")] = 1,
    seed: Seed = 0,
    xray: Annotated[bool, tyro.conf.arg(help="show how it was written, pass by pass: OUT/xray.html")] = False,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="where xray.html and xray.json go")] = Path(),
    workspace: Workspace = None,
) -> Result:
    """Continue a text with a node, token by token; an encoder–decoder translates it, and draws nothing at random.

    journey generate base "numpy.mean(a, axis=None)"
    journey generate base "import " --temperature 0
    journey generate base "The function returns" --samples 4 --xray      what ran in parallel, and what could not
    journey generate base "Parameters: " --json-schema names.json --stop "\\n\\n"
    journey generate translator "four hundred and twelve" --beams 4
    """
    from journey.infer.sampling import Sampling
    from journey.infer.sequence import Request
    from journey.infer.speculate import repeat
    from journey.xray.record import Run, warm

    if translates(model_node := find_model(node, workspace)):
        if temperature not in (0, 0.8) or top_k or top_p != 1 or min_p or repetition_penalty != 1:
            raise JourneyError(
                "an encoder–decoder draws nothing at random: leave temperature, top_k, top_p, min_p and "
                "repetition_penalty out"
            )
        if samples > 1 or guess or xray or stop or json_schema or regex:
            raise JourneyError("an encoder–decoder writes one whole text: leave out what stops, forms or multiplies it")
        return _translate(model_node, prompt, max_new_tokens, beams)
    if beams > 1:
        raise JourneyError(f"{node} is a GPT, beams are for an encoder–decoder: leave --beams out")
    found, model, tokenizer = open_model(node, workspace)
    ids = [tokenizer.bos, *tokenizer.encode(prompt)]
    room = model.config.n_ctx - len(ids)
    if room < 1:
        raise JourneyError(
            f"the prompt has {len(ids)} tokens, the context is {model.config.n_ctx}: shorten it by {1 - room}"
        )
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    request = Request(
        prompt=ids,
        max_new_tokens=min(max_new_tokens, room),
        stop=frozenset(tokenizer.stop),
        sampling=sampling,
        stop_strings=tuple(text.replace("\\n", "\n") for text in stop),
        grammar=_grammar(tokenizer, json_schema, regex),
    )
    if xray:
        warm(model, ids)
    run = Run(model)
    done = _write(model, tokenizer, prompt, request, samples, repeat if guess else None, run if xray else None)
    texts = [completion.text for completion in done]
    n = sum(len(completion.ids) for completion in done)
    more = {"prompt": prompt, "text": texts[0], "tokens": n, "finish": done[0].finish}
    more |= {"texts": texts} if samples > 1 else {}
    path = _xray(found, run, tokenizer, ids, [completion.ids for completion in done], out) if xray else None
    return Result(found.id, path, more=more)


def _grammar(tokenizer: Any, json_schema: Path | None, regex: str | None) -> Any:
    """What a text has to be like, or None."""
    from journey.infer.grammar import Grammar

    if json_schema and regex is not None:
        raise JourneyError("--json-schema and --regex: give one of the two")
    if json_schema:
        return Grammar.json_schema_file(tokenizer, json_schema)
    return None if regex is None else Grammar.regex(tokenizer, regex)


def _write(
    model: Any, tokenizer: Any, prompt: str, request: "Request", samples: int, guess: Any, watch: "Run | None"
) -> list["Completion"]:
    """Write the texts and print them, the first as it is made."""
    from journey.infer.engine import Engine, enough
    from journey.infer.sequence import Completion

    n_blocks = enough(model, len(request.prompt) + request.max_new_tokens, samples)
    engine = Engine(model, tokenizer, n_blocks=n_blocks, sequences=samples, guess=guess, watch=watch)
    sequences = [engine.add(dataclasses.replace(request, number=i)) for i in range(samples)]
    print(f"--- 1\n{prompt}" if samples > 1 else prompt, end="", flush=True)
    while engine.busy:
        for one in engine.step():
            if one.sequence is sequences[0]:
                print(one.text, end="", flush=True)
    print()
    done = [Completion.of(sequence) for sequence in sequences]
    for i, completion in enumerate(done[1:], 2):
        print(f"--- {i}\n{prompt}{completion.text}")
    return done


def _xray(node: Node, run: "Run", tokenizer: Any, ids: list[int], texts: list[list[int]], out: Path) -> Path:
    """Compare and measure, and write the page and its numbers."""
    from journey.doctor import speed
    from journey.files import write_json, write_text
    from journey.xray import page, record

    say = functools.partial(print, file=sys.stderr, flush=True)
    saved = record.compare(run.model, ids, texts[0], say)
    say("xray: what the machine can do")
    found = {"matmul": speed.matmul(), "reading": speed.reading()}
    roof = {name: one.metrics[name]["value"] for name, one in found.items()}
    machine = {name: one.found.partition("(")[2].rstrip(")") for name, one in found.items()} | {
        "cpu": surroundings()["machine"]["cpu"]
    }
    html = page.page(
        run, saved, tokenizer, ids, texts, name=node.name, roof=(roof["matmul"], roof["reading"]), machine=machine
    )
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "xray.html", html)
    write_json(out / "xray.json", {"passes": page.facts(run), "saved": vars(saved), "roof": roof, "machine": machine})
    return out / "xray.html"


def _translate(node: Node, text: str, max_new_tokens: int, beams: int) -> Result:
    """Print a text in the other language."""
    from journey.conversation import VISIBLE
    from journey.infer.translate import translate

    model, tokenizer = open_seq2seq(node.path)
    source, limit = tokenizer.encode(text), max_new_tokens
    found = translate(model, [source], start=tokenizer.bos, eos=tokenizer.eos, beams=beams, max_new_tokens=limit)[0]
    said = tokenizer.decode([i for i in found.ids if i != tokenizer.eos])
    print(said.translate(VISIBLE))
    return Result(node.id, more={"prompt": text, "text": said, "tokens": len(found.ids)})


def _print_as_written(ids: Iterable[int], tokenizer: Any) -> str:
    """Print each id's text as soon as its characters are whole, what a terminal would obey made visible; the whole
    text."""
    from journey.conversation import VISIBLE
    from journey.infer.text import TextStream

    decoder, new = TextStream(tokenizer), list[int]()
    for token in ids:
        new.append(token)
        if token not in tokenizer.stop:
            print(decoder.feed(token).translate(VISIBLE), end="", flush=True)
    print(decoder.end())
    return tokenizer.decode([i for i in new if i not in tokenizer.stop])


def chat(
    node: Annotated[Positional[str], tyro.conf.arg(metavar="NODE")],
    /,
    max_new_tokens: Annotated[Count, tyro.conf.arg(help="at most this many tokens an answer")] = 64,
    temperature: NonNegative = 0.7,
    top_k: Amount = 0,
    top_p: TopP = 0.95,
    seed: Seed = 0,
    system: Annotated[str | None, tyro.conf.arg(help="a system message that stands before every turn")] = None,
    workspace: Workspace = None,
) -> Result:
    """Talk with a node. History is trimmed to the context; /reset forgets it, /help says the rest.

    journey chat chat
    """
    import readline  # noqa: F401  (gives `input` cursor keys and history)

    from journey.conversation import Conversation, chat_loop
    from journey.infer.engine import Engine, enough
    from journey.infer.sampling import Sampling
    from journey.infer.sequence import Request

    found, model, tokenizer = open_model(node, workspace)
    talk = Conversation(tokenizer, model.config.n_ctx, max_new_tokens, system)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    # One engine for the whole talk: of a prompt it has all that came before this question in its cache.
    engine = Engine(model, n_blocks=enough(model, model.config.n_ctx, 2), sequences=1)

    def answer(prompt: list[int], limit: int, sampling: Sampling) -> Iterator[int]:
        stop = frozenset(tokenizer.stop)
        return engine.stream(Request(prompt=prompt, max_new_tokens=limit, stop=stop, sampling=sampling))

    chat_loop(answer, tokenizer, talk, sampling, input, lambda text: print(text, end="", flush=True))
    return Result(found.id)


def ask(
    question: Annotated[Positional[str], tyro.conf.arg(metavar="QUESTION")],
    /,
    index: Annotated[str | None, tyro.conf.arg(metavar="NODE", help="the index (default: the journey's last)")] = None,
    node: Annotated[
        str | None, tyro.conf.arg(metavar="NODE", help="who answers (default: the model that the index was made for)")
    ] = None,
    passages: Annotated[Amount, tyro.conf.arg(help="passages in the prompt, as far as they fit (0: none)")] = 1,
    max_new_tokens: Annotated[Count, tyro.conf.arg(help="at most this many tokens")] = 64,
    temperature: Annotated[NonNegative, tyro.conf.arg(help="0 takes the likeliest token each time")] = 0.0,
    seed: Seed = 0,
    workspace: Workspace = None,
) -> Result:
    """Answer a question from an index: retrieve passages, answer with them in the prompt, and show the sources.

    journey ask "What does numpy.mean do?"
    journey ask "Which function sorts a list in place?" --passages 0      from the weights alone
    """
    from journey.conversation import VISIBLE
    from journey.infer.sampling import Sampling
    from journey.retrieve.answer import ask as retrieve
    from journey.retrieve.index import Index

    place = home(workspace, must=False)
    found = runner.find_node(index or runner.last("index", place), place)
    if found.stage != "index":
        raise JourneyError(f'"{found.name}" is a {found.stage} node: --index wants one that `journey index` made')
    made_for = runner.parent_of(found)
    if not (node or made_for):
        raise JourneyError(f"the model that {found.path} was made for does not stand beside it: name one with --node")
    who, model, tokenizer = open_model(node or str(made_for), workspace)
    own = (model, tokenizer) if made_for in (None, who.path) else open_model(str(made_for), workspace)[1:]
    read = [data for made in runner.ancestors(who) for data in made.lineage.get("data", {}).values()]
    seen = {text["id"] for data in read if "id" in (text := data.get("text", data))}
    reply = retrieve(
        question,
        Index(found.path, *own),  # a question becomes a vector by the model that made the passages' vectors
        model,
        tokenizer,
        passages=passages,
        max_new_tokens=max_new_tokens,
        seen=seen or None,
    )
    written = reply.stream(model, tokenizer, max_new_tokens, Sampling(temperature=temperature, seed=seed))
    answer = _print_as_written(written, tokenizer)
    print(f"\n{reply.text().translate(VISIBLE)}")
    return Result(who.id, more=reply.json() | {"answer": answer})
