"""`journey plan`: so much arithmetic, and the training that a scaling law would spend it on."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from journey.errors import JourneyError
from journey.fields import Count, Within
from journey.metrics import metric
from journey.model.families import FamilyName
from journey.verbs.common import Result

if TYPE_CHECKING:
    from journey import planning

LAWS = ("chinchilla", "besiroglu", "kaplan")


def plan(
    flops: Annotated[float, Within(least=1e9, most=1e26), tyro.conf.arg(help="arithmetic to spend on training")],
    law: Annotated[
        str,
        tyro.conf.arg(metavar="NAME|FILE", help=f"{', '.join(LAWS)}, or the sweep.json of `journey sweep scaling-law`"),
    ] = "chinchilla",
    data: Annotated[
        str | None,
        tyro.conf.arg(metavar="TEXT", help="what to train on (default: installed-docs, while that is enough)"),
    ] = None,
    vocab_size: Annotated[Count, tyro.conf.arg(help="entries of the tokenizer")] = 4096,
    n_ctx: Annotated[Count, tyro.conf.arg(help="tokens of a row")] = 256,
    family: Annotated[FamilyName, tyro.conf.arg(help="architecture")] = "qwen3",
    optimizer: Annotated[Literal["muon", "adamw"], tyro.conf.arg(help="whose rates are given")] = "muon",
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help="write it as a recipe, for `journey run`")] = None,
) -> Result:
    """Say what to train with so much arithmetic: width, depth, batch, rates, tokens, hours, and how each follows.

    journey plan --flops 1e17
    journey plan --flops 1e13 --law sweeps/scaling-law/sweep.json --vocab-size 1024 --n-ctx 128
    journey plan --flops 3e18 --law kaplan --n-ctx 1024 --vocab-size 32768 --out big.yaml
    """
    from journey import planning
    from journey.files import write_text
    from journey.report.format import flops as said_flops

    if out and (out.exists() or out.is_symlink() or not out.absolute().parent.is_dir()):
        raise JourneyError(f"cannot write {out}: --out names a new file, in a folder that exists")
    made = planning.make(flops, _advice(law, flops), data, vocab_size, n_ctx, family, optimizer)
    settings = made.settings()
    print(f"{said_flops(flops, 3)}, by {made.law}")
    for line in made.derivation:
        print(f"  {line}")
    if out:
        write_text(out, made.recipe())
        print(f"\njourney run {shlex.quote(str(out))}")
        print(f"recipe: {out}", file=sys.stderr)
    else:
        words = [f"--{key.replace('_', '-')} {shlex.quote(str(value))}" for key, value in settings.items()]
        text = shlex.quote(made.config.data)
        print(f"\njourney tokenizer train --data {text} --vocab-size {vocab_size} --out tokenizer")
        print(f"journey pretrain tokenizer {' '.join(words)} --out base")
    numbers = {
        "parameters": metric(made.shape.n_params),
        "tokens": metric(made.config.tokens, "tokens"),
        "steps": metric(made.steps),
        "seconds": metric(made.cost.seconds, "s", "an estimate, from this machine's matrix products"),
        "disk": metric(made.cost.bytes, "bytes"),
        **({"loss": made.loss.metric()} if made.loss else {}),
    }
    said = {"flops": flops, "law": made.law, "settings": settings, "vocab_size": vocab_size}
    return Result(path=out, metrics=numbers, more={"plan": said | {"derivation": list(made.derivation)}})


def _advice(law: str, C: float) -> "planning.Advice":
    from journey import planning
    from journey.sweep.law import read_fit

    if law == "kaplan":
        return planning.by_kaplan(C)
    if law in planning.PUBLISHED:
        return planning.by_constants(law, C)
    fit, largest = read_fit(Path(law))
    return planning.by_fit(fit, C, law, largest)
