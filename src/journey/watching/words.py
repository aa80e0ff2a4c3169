"""A training in words: what the plain lines and the live picture both say of it."""

from collections.abc import Iterator

from journey.console import clock
from journey.report.format import bytes_, si
from journey.watching.training import RECENT, Training

RUNNING, SAVING, FINISHED, STOPPED = "runs", "is being saved", "is finished", "is not running"


def title(training: Training, state: str) -> str:
    """`base (pretrain) runs: step 402 of 1,900`."""
    steps = training.planned("steps")
    of = f" of {steps:,.0f}" if steps else ""
    more = {STOPPED: "; the command that began it goes on"}.get(state, "")
    return f"{training.name} ({training.stage}) {state}: step {training.step:,}{of}{more}"


def brief(training: Training) -> str:
    """All that matters, in a line."""
    now, _ = training.speed
    parts = [f"{100 * training.share:3.0f} %  {amount(training)}"]
    if training.loss is not None:
        parts.append(f"loss {training.loss:.4g}")
    parts += [f"{_said(key)} {series[-1][1]:.4g}" for key, series in training.dev.items()]
    if now:
        parts.append(f"{now:,.0f} tokens/s")
    if (mfu := training.mfu(now)) is not None:
        parts.append(f"MFU {100 * mfu:.1f} %")
    if training.left is not None and not training.complete:
        parts.append(f"{clock(training.left)} left")
    return "  ".join(parts)


def amount(training: Training) -> str:
    """`412,000 of 1,000,000 tokens`."""
    total = training.planned("tokens")
    return f"{training.tokens:,.0f}" + (f" of {total:,.0f}" if total else "") + " tokens"


def facts(training: Training) -> Iterator[tuple[str, str]]:
    """Names and what there is to say of each, in the order in which people look."""
    if training.losses:
        every = [loss for _, loss in training.losses]
        mean = sum(every) / len(every)
        now = f"{training.loss:.4g} over the last {min(RECENT, len(every))} steps"
        yield "loss", f"{now} (the last {every[-1]:.4g}, least {min(every):.4g}, mean {mean:.4g}, first {every[0]:.4g})"
    for key, series in training.dev.items():
        first, last = series[0][1], series[-1][1]
        yield (
            _said(key),
            f"{last:.4g} at {series[-1][0]:,.0f} tokens" + (f" (from {first:.4g})" if len(series) > 1 else ""),
        )
    if rates := training.rates:
        yield "learning rate", ", ".join(f"{each} {rate:.4g}".strip() for each, rate in rates.items())
    if (norm := training.number("grad_norm")) is not None:
        yield "gradient", f"norm {norm:.4g}, before clipping"
    newest, all_over = training.speed
    if newest and all_over:
        yield (
            "speed",
            f"{newest:,.0f} tokens/s over the last {min(RECENT, training.step)} steps, {all_over:,.0f} in the mean",
        )
    yield from _mfu(training, newest, all_over)
    if (memory := training.number("memory")) is not None:
        yield "memory", f"{_plain(bytes_(memory))} at most"
    if (seconds := training.number("seconds")) is not None:
        left = f", {clock(training.left)} left" if training.left is not None and not training.complete else ""
        yield "time", f"{clock(seconds)} so far{left}"


def _mfu(training: Training, now: float | None, mean: float | None) -> Iterator[tuple[str, str]]:
    each, most = training.planned("flops_per_token"), training.planned("peak_flops")
    device = " ".join(filter(None, [training.said("device"), training.said("precision")]))
    if (share := training.mfu(now)) is None or not each or not most:
        if each:
            yield "MFU", f"unknown on {device}: {training.said('peak_source') or 'no peak is known'}"
        return
    average = f", {100 * (training.mfu(mean) or 0):.1f} % in the mean" if mean else ""
    yield (
        "MFU",
        (f"{100 * share:.1f} %{average}: tokens/s × {_plain(si(each, 'FLOP'))} a token / {_plain(si(most, 'FLOP/s'))}"),
    )
    yield "  a token", training.said("flops_formula")
    yield "  the peak", f"{training.said('peak_source')} ({device})"


def layers(training: Training) -> list[tuple[str, float | None, float | None]]:
    """Each layer with its gradient's norm and ‖Δw‖/‖w‖, as last looked at."""
    gradients, updates = training.by_layer("grad_norms"), training.by_layer("update_norms")
    return [(name, gradients.get(name), updates.get(name)) for name in {**gradients, **updates}]


def report(training: Training, state: str) -> Iterator[str]:
    """All of it, as lines for a pipe."""
    yield title(training, state)
    yield f"  {brief(training).strip()}"
    for name, text in facts(training):
        yield f"  {name:<16} {text}".rstrip()
    if found := layers(training):
        yield f"  {'layer':<16} {'gradient':>10} {'update/weight':>14}   at step {training.norms['step']:,}"
        for name, gradient, update in found:
            yield f"  {name:<16} {_or_dash(gradient):>10} {_or_dash(update):>14}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _said(key: str) -> str:
    return key.replace("_", " ")


def _plain(text: str) -> str:
    return text.replace("\u00a0", " ")
