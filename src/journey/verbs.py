"""What each verb of the command line does. A function's signature and docstring are its manual."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from journey import recipe as recipes
from journey import runner
from journey.checkpoint import Node
from journey.console import clock, make_console
from journey.errors import JourneyError
from journey.pair import open_pair
from journey.stages import load
from journey.stages.run import Run

Workspace = Annotated[
    Path | None, tyro.conf.arg(metavar="DIR", help="the journey's folder (default: the one in ./journeys)")
]


@dataclasses.dataclass
class Result:
    """What a verb has to say; `--json` prints it as one object."""

    node: str | None = None
    path: Path | None = None
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    more: dict[str, Any] = dataclasses.field(default_factory=dict)  # keys of one verb alone
    ok: bool = True
    error: str | None = None
    bad_input: bool = False

    def json(self, verb: str) -> str:
        """The one shape of every verb."""
        shape = {
            "ok": self.ok,
            "verb": verb,
            "node": self.node,
            "path": str(self.path) if self.path else None,
            "metrics": self.metrics,
            "error": self.error,
        }
        return json.dumps(shape | self.more, ensure_ascii=False)


def run(
    recipe: Annotated[Positional[str], tyro.conf.arg(metavar="RECIPE", help="a name or a file")] = "pocket",
    /,
    workspace: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help="where (default: ./journeys/<name>)")] = None,
    until: Annotated[str | None, tyro.conf.arg(metavar="STAGE", help="stop after this stage")] = None,
    from_: Annotated[
        str | None, tyro.conf.arg(name="from", metavar="STAGE", help="make this stage and what follows anew")
    ] = None,
    smoke: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="the small life that the recipe lists under `smoke`")
    ] = False,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="show the plan and stop")] = False,
    set: Annotated[
        tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(metavar="KEY=VALUE", help="change a key of the recipe")
    ] = [],  # noqa: B006  (tyro reads the default, nobody changes it)
) -> Result:
    """Run a recipe: plan it, skip what stands, make and measure the rest, and write the report.

    journey run                                      the pocket life
    journey run pocket --dry-run                     the plan, with time and disk
    journey run my-gpt2 --smoke                      all of it with a few steps each, to see that it works
    journey run my.yaml --until base
    journey run --set stages.base.tokens=200_000 --set stages.base.data=my-texts/
    """
    from journey import report

    read = recipes.read(recipes.find(recipe), set, smoke)
    place = workspace or Path("journeys") / read.name
    planned = runner.plan(read, place, until, from_)
    todo = [item for item in planned if item.waits]
    cost = runner.remaining(planned)
    _print_plan(planned, place, cost)
    if dry_run:
        ids = [{"name": i.step.name, "stage": i.step.stage, "id": i.id, "done": i.done} for i in planned]
        return Result(path=place, more={"nodes": ids, "seconds": round(cost.seconds), "bytes": round(cost.bytes)})
    nodes = runner.make(read, planned, place, make_console())
    page = place / "report.html"
    if runner.is_stale(page, place):
        page = report.build(place)
        print(f"report: {page}", file=sys.stderr)
    else:
        print(f"nothing to do: nothing has changed since {place} was made (report: {page})", file=sys.stderr)
    return Result(nodes[-1].id, page, nodes[-1].lineage["metrics"], {"made": [item.step.name for item in todo]})


def _print_plan(planned: list[runner.Planned], place: Path, cost: runner.Cost) -> None:
    waiting = [item for item in planned if item.waits]
    if not waiting:
        return
    print(f"{place}: {len(waiting)} of {len(planned)} stages to make", file=sys.stderr)
    for item in planned:
        cost_ = f"about {clock(item.cost.seconds)}, {item.cost.bytes / 1e6:,.0f} MB"
        state = cost_ if item.waits else "done" if item.done else "not asked for"
        print(f"  {item.step.name:<14} {item.step.stage:<10} {item.id[:10]}  {state}", file=sys.stderr)
    print(f"in all about {clock(cost.seconds)} and {cost.bytes / 1e6:,.0f} MB", file=sys.stderr)


def tree(workspace: Workspace = None) -> Result:
    """Draw which node was made from which, with what each one holds.

    journey tree
    journey tree --json
    """
    from journey.tree import draw, entries

    place = home(workspace)
    nodes = entries(place)
    print(draw(nodes))
    return Result(path=place, more={"nodes": nodes})


def report(workspace: Workspace = None) -> Result:
    """Write the report: one HTML file that shows what each stage changed.

    journey report
    """
    from journey import report as pages

    page = pages.build(home(workspace))
    print(page)
    return Result(path=page)


def generate(
    node: Annotated[Positional[str], tyro.conf.arg(metavar="NODE")],
    prompt: Annotated[Positional[str], tyro.conf.arg(metavar="TEXT")],
    /,
    max_new_tokens: Annotated[int, tyro.conf.arg(help="at most this many tokens")] = 100,
    temperature: Annotated[float, tyro.conf.arg(help="0 takes the likeliest token each time")] = 0.8,
    top_k: Annotated[int, tyro.conf.arg(help="only among the k likeliest (0: all)")] = 0,
    top_p: Annotated[float, tyro.conf.arg(help="only among the likeliest that make up this share")] = 1.0,
    seed: int = 0,
    workspace: Workspace = None,
) -> Result:
    """Continue a text with a node, token by token.

    journey generate base "numpy.mean(a, axis=None)"
    journey generate base "import " --temperature 0
    """
    from journey.infer.engine import stream
    from journey.infer.sampling import Sampling

    found, model, tokenizer = open_model(node, workspace)
    ids = [tokenizer.bos, *tokenizer.encode(prompt)]
    room = model.config.n_ctx - len(ids)
    if room < 1:
        raise JourneyError(
            f"the prompt has {len(ids)} tokens, the context is {model.config.n_ctx}: shorten it by {1 - room}"
        )
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    limit = min(max_new_tokens, room)
    print(prompt, end="", flush=True)
    written = stream(model, ids, max_new_tokens=limit, stop=tokenizer.stop, sampling=sampling)
    text, n = _print_as_written(written, tokenizer)
    return Result(found.id, more={"prompt": prompt, "text": text, "tokens": n})


def _print_as_written(ids: Iterable[int], tokenizer: Any, translated: dict[int, int] | None = None) -> tuple[str, int]:
    """Print each id's text as soon as its characters are whole; the whole text, and how many ids there were."""
    from journey.conversation import TextStream

    decoder, new = TextStream(tokenizer), list[int]()
    for token in ids:
        new.append(token)
        if token not in tokenizer.stop:
            print(decoder.feed(token).translate(translated or {}), end="", flush=True)
    print(decoder.end())
    return tokenizer.decode([i for i in new if i not in tokenizer.stop]), len(new)


def chat(
    node: Annotated[Positional[str], tyro.conf.arg(metavar="NODE")],
    /,
    max_new_tokens: Annotated[int, tyro.conf.arg(help="at most this many tokens an answer")] = 64,
    temperature: float = 0.7,
    top_k: int = 0,
    top_p: float = 0.95,
    seed: int = 0,
    system: Annotated[str | None, tyro.conf.arg(help="a system message that stands before every turn")] = None,
    workspace: Workspace = None,
) -> Result:
    """Talk with a node. History is trimmed to the context; /reset forgets it, /help says the rest.

    journey chat chat
    """
    import readline  # noqa: F401  (gives `input` cursor keys and history)

    from journey.conversation import Conversation, chat_loop
    from journey.infer.sampling import Sampling

    found, model, tokenizer = open_model(node, workspace)
    talk = Conversation(tokenizer, model.config.n_ctx, max_new_tokens, system)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    chat_loop(model, tokenizer, talk, sampling, input, lambda text: print(text, end="", flush=True))
    return Result(found.id)


def ask(
    question: Annotated[Positional[str], tyro.conf.arg(metavar="QUESTION")],
    /,
    index: Annotated[str | None, tyro.conf.arg(metavar="NODE", help="the index (default: the journey's last)")] = None,
    node: Annotated[
        str | None, tyro.conf.arg(metavar="NODE", help="who answers (default: the model that the index was made for)")
    ] = None,
    passages: Annotated[int, tyro.conf.arg(help="passages in the prompt, as far as they fit (0: none)")] = 1,
    max_new_tokens: Annotated[int, tyro.conf.arg(help="at most this many tokens")] = 64,
    temperature: Annotated[float, tyro.conf.arg(help="0 takes the likeliest token each time")] = 0.0,
    seed: int = 0,
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
    answer, _ = _print_as_written(written, tokenizer, VISIBLE)
    print(f"\n{reply.text().translate(VISIBLE)}")
    return Result(who.id, more=reply.json() | {"answer": answer})


def eval(nodes: Positional[list[str]], /, workspace: Workspace = None) -> Result:
    """Show what was measured at nodes on the test split, each number with its 95 % interval.

    journey eval base chat
    """
    from journey import measure
    from journey.report import summary

    if not nodes:
        raise JourneyError("name at least one node: `journey eval base`")
    place = home(workspace)
    summaries = {name: summary.summary(measure.read(runner.find_node(name, place), place)) for name in nodes}
    for name, metrics in summaries.items():
        print(name)
        for key, m in metrics.items():
            interval = f" [{m['low']:.4g}, {m['high']:.4g}]" if m["low"] is not None else ""
            print(f"  {key:<44} {m['value']:.4g}{interval} {m['unit']}  n={m['n']}")
    only = runner.find_node(nodes[0], place).id if len(nodes) == 1 else None
    metrics = summaries[nodes[0]] if only else {f"{n}.{k}": m for n, s in summaries.items() for k, m in s.items()}
    return Result(only, metrics=metrics)


def diff(a: Positional[str], b: Positional[str], /, workspace: Workspace = None) -> Result:
    """What changed from node A to node B: each effect, paired over the same test items, with its 95 % interval.

    journey diff base chat
    """
    from journey import measure
    from journey.report.effects import compare

    place = home(workspace)
    old, new = (measure.read(runner.find_node(name, place), place) for name in (a, b))
    effects = compare(old, new)
    if not effects:
        raise JourneyError(
            f'nothing was measured at both "{a}" and "{b}": compare two models, as in journey diff base chat'
        )
    for effect in effects:
        print(effect.line())
    return Result(new["node"], metrics={effect.name: effect.metric() for effect in effects})


def doctor() -> Result:
    """Look at machine and installation: versions, cores, memory, GPU, a numerical self-check, what is missing.

    journey doctor
    """
    from journey.doctor import examine

    found = examine(print)
    return Result(metrics=found["metrics"], ok=found["ok"], error=found["error"])


def stage_verb(name: str) -> Callable[..., Result]:
    """The verb of a stage: its config's fields as options, and the same call that a recipe makes."""
    function, config_class = load(name)
    from journey.stages import STAGES

    needs = STAGES[name][1]

    def verb(config: Any, out: Path, parent: str | None = None, seed: int = 0, workspace: Path | None = None) -> Result:
        if needs and not parent:
            raise JourneyError(f"--parent NODE is missing: a {needs} node, or a folder with one")
        found = runner.find_node(parent, home(workspace, must=False)) if parent else None
        console = make_console()
        with console.listening():
            console.begin(out.name, name)
            node = function(found, config, Run(out, seed, console=console))
            console.end(out.name, f"{node.path}")
        print(node.path)
        return Result(node.id, node.path, node.lineage["metrics"])

    verb.__doc__ = _stage_manual(name, function)
    verb.__annotations__ |= {
        "config": OmitArgPrefixes[config_class],  # type: ignore[misc, valid-type]
        "out": Annotated[Path, tyro.conf.arg(metavar="DIR", help="the folder to make")],
        "parent": Annotated[
            str | None, tyro.conf.arg(metavar="NODE", help=f"the {needs} to start from" if needs else "none")
        ],
        "workspace": Workspace,
    }
    return verb


def _stage_manual(name: str, function: Callable[..., Node]) -> str:
    examples = {
        "text": "journey text --source my-texts/ --out text",
        "tokenizer": "journey tokenizer train --data my-texts/ --vocab-size 4096 --out tok",
        "prepare": "journey data prepare tok --data my-texts/ --out tokens\n"
        "journey pretrain --parent tok --data tokens --tokens 1000000 --out base",
        "pretrain": "journey pretrain --parent tok --data my-texts/ --tokens 1000000 --out base",
        "continue": "journey continue --parent base --data my-code/ --replay-data my-texts/ --out coder",
        "sft": "journey sft --parent base --data questions.jsonl --out chat",
        "pairs": "journey pairs --parent chat --data questions.jsonl --out pairs",
        "dpo": "journey dpo --parent chat --data pairs --out preferred",
        "quantize": "journey quantize --parent preferred --types f16 q8_0 q4_0 --out gguf",
        "index": "journey index --parent preferred --data my-texts/ --out index",
        "import": "journey import ckpt.pt --out mine",
    }
    return f"{function.__doc__}\n\n{examples[name]}"


def home(workspace: Path | None, must: bool = True) -> Path:
    """The workspace that a verb means: the one given, or the only one in ./journeys."""
    if workspace:
        return workspace
    found = sorted(path.parent for path in Path("journeys").glob(f"*/{runner.PLAN}"))
    if len(found) > 1:
        raise JourneyError(f"several journeys are here: say --workspace {' or '.join(map(str, found))}")
    if not found and must:
        raise JourneyError("no journey here: `journey run` makes one, or give --workspace DIR")
    return found[0] if found else Path("journeys")


def open_model(name: str, workspace: Path | None) -> tuple[Node, Any, Any]:
    """A node with its model and tokenizer loaded. Errors: JourneyError when it holds no weights."""
    node = runner.find_node(name, home(workspace, must=False))
    if not node.is_model:
        raise JourneyError(f"{node.path} holds no weights: it is a {node.stage} node")
    return node, *open_pair(node.path)
