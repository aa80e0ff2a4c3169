"""What every model makes of the same prompts, side by side."""

from journey.report.chapters.parts import nothing
from journey.report.life import Life
from journey.report.markup import escape, folded

LIMIT = 1200  # characters of one sample shown


def samples(life: Life) -> str:
    """Each prompt with what every model made of it; beyond the first of each kind they are folded."""
    prompts = dict.fromkeys((x["kind"], x["prompt"]) for s in life.models for x in s.measurement.get("samples", []))
    if not prompts:
        return nothing("No samples were taken.")
    firsts = dict(reversed(list(prompts)))  # the first of a kind is put in last, and stays
    shown = [_prompt(life, kind, prompt) for kind, prompt in prompts if firsts[kind] == prompt]
    more = [_prompt(life, kind, prompt) for kind, prompt in prompts if firsts[kind] != prompt]
    return "".join(shown) + (folded(f"{len(more)} more prompts", "".join(more)) if more else "")


def _prompt(life: Life, kind: str, prompt: str) -> str:
    texts = "".join(
        f'<div class="sample s{life.colour(s)}"><h4>{escape(s.name)}</h4>'
        f'<pre dir="auto">{_sample(x["text"])}</pre></div>'
        for s in life.models
        for x in s.measurement.get("samples", [])
        if (x["kind"], x["prompt"]) == (kind, prompt)
    )
    said = {"chat": "Asked in the chat format", "text": "To be continued"}.get(kind, kind)
    return (
        f'<section class="prompt"><h3>{escape(said)}</h3><pre class="given" dir="auto">{escape(prompt.rstrip())}</pre>'
        f'<div class="side">{texts}</div></section>'
    )


def _sample(text: str) -> str:
    if not text.strip():
        return "<i>(nothing: it ended at once)</i>"
    return escape(text[:LIMIT].strip("\n")) + (" <i>… (cut here)</i>" if len(text) > LIMIT else "")
