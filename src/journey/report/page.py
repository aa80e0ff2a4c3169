"""The page as a whole: the headline a person would show, the stages, the measurements, and how it was all measured."""

from pathlib import Path

from journey.report import chapters, words
from journey.report.biography import section
from journey.report.claims import claims
from journey.report.effects import Effect, effects
from journey.report.headline import headline
from journey.report.life import Life
from journey.report.lists import Notes, claim_list
from journey.report.markup import escape
from journey.report.provenance import method, nodes

STYLE = Path(__file__).with_name("style.css")


def page(life: Life) -> str:
    """The whole HTML of a life."""
    found = effects([s.measurement for s in life.models], {s.lineage["id"]: s.lineage for s in life.done})
    notes = Notes()
    expected = claims(life, found)
    promises = claim_list(expected, notes) if expected else '<p class="nothing">Nothing to compare yet.</p>'
    firsts = {s.kind: s.name for s in reversed(life.stages)}
    stages = "".join(section(life, s, firsts[s.kind] == s.name, found, notes) for s in life.stages)
    measured = _chapters(life, found, notes)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(life.recipe)}: what each stage changed</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head><body>"
        f"{headline(life, found)}{_contents(life)}<main>"
        f'<section id="expected"><h2>What was expected, and what came out</h2>{promises}</section>'
        f'<section id="stages"><h2>The stages, one by one</h2>{stages}</section>'
        f"{measured}"
        f'<section id="lineage"><h2>Lineage</h2><p>{words.LINEAGE}</p>{nodes(life)}</section>'
        f'<section id="how"><h2>How it was measured</h2>{method(life, found)}{notes.listed()}</section>'
        "</main><footer><p>Made by <code>journey report</code> from the files of the nodes. "
        "This page needs no network and no script.</p></footer></body></html>\n"
    )


def _contents(life: Life) -> str:
    links = [("expected", "Expected and found"), *((f"stage-{s.name}", s.name) for s in life.stages)]
    links += [(id, title) for id, title, _ in _CHAPTERS] if life.models else []
    links += [("lineage", "Lineage"), ("how", "How it was measured")]
    items = "".join(f'<li><a href="#{escape(id)}">{escape(title)}</a></li>' for id, title in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


_CHAPTERS = (
    ("bits", "Bits per byte", words.BITS),
    ("forgetting", "What was forgotten", words.FORGETTING),
    ("choices", "Multiple choice", words.CHOICES),
    ("answers", "Answers", words.ANSWERS),
    ("repeats", "Repeated tokens and heads", words.REPEATS),
    ("parent", "Inside, against the parent", "What a stage did to the model itself."),
    ("samples", "Samples side by side", words.SAMPLES),
)


def _chapters(life: Life, found: list[Effect], notes: Notes) -> str:
    if not life.models:
        return "<section><h2>Measurements</h2><p class='nothing'>No model has been measured yet.</p></section>"
    bodies = {
        "bits": lambda: chapters.bits(life, notes),
        "forgetting": lambda: chapters.forgetting(life, found),
        "choices": lambda: chapters.choices(life),
        "answers": lambda: chapters.answers(life),
        "repeats": lambda: chapters.repeats(life, found),
        "parent": lambda: chapters.against_parent(life),
        "samples": lambda: chapters.samples(life),
    }
    parts = (
        f'<section id="{id}"><h2>{title}</h2><p>{said}</p>{bodies[id]()}</section>' for id, title, said in _CHAPTERS
    )
    return "".join(parts)
