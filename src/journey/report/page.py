"""The page as a whole: the headline a person would show, the stages, the measurements, and how it was all measured."""

from collections.abc import Sequence
from pathlib import Path

from journey.report import words
from journey.report.biography import section
from journey.report.chapters import FIRST, THEN, Chapter
from journey.report.claims import claims
from journey.report.effect import Effect
from journey.report.effects import effects
from journey.report.headline import headline
from journey.report.life import Life
from journey.report.lists import Notes, claim_list
from journey.report.markup import escape
from journey.report.provenance import method, nodes

STYLE = Path(__file__).with_name("style.css")


def page(life: Life) -> str:
    """The whole HTML of a life."""
    found = effects([s.measurement for s in life.measured], {s.lineage["id"]: s.lineage for s in life.done})
    notes = Notes()
    expected = claims(life, found)
    promises = claim_list(expected, notes) if expected else '<p class="nothing">Nothing to compare yet.</p>'
    first = _chapters(FIRST, life, found, notes)
    kinds = {s.kind: s.name for s in reversed(life.stages)}
    stages = "".join(section(life, s, kinds[s.kind] == s.name, found, notes) for s in life.stages)
    then = _chapters(THEN, life, found, notes) or (
        "<section><h2>Measurements</h2><p class='nothing'>No model has been measured yet.</p></section>"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(life.recipe)}: what each stage changed</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head><body>"
        f"{headline(life, found)}{_contents(life)}<main>"
        f'<section id="expected"><h2>What was expected, and what came out</h2>{promises}</section>{first}'
        f'<section id="stages"><h2>The stages, one by one</h2>{stages}</section>{then}'
        f'<section id="lineage"><h2>Lineage</h2><p>{words.LINEAGE}</p>{nodes(life)}</section>'
        f'<section id="how"><h2>How it was measured</h2>{method(life, found)}{notes.listed()}</section>'
        "</main><footer><p>Made by <code>journey report</code> from the files of the nodes. "
        "This page needs no network and no script.</p></footer></body></html>\n"
    )


def _contents(life: Life) -> str:
    links = [
        ("expected", "Expected and found"),
        *_links(FIRST, life),
        *((f"stage-{s.name}", s.name) for s in life.stages),
    ]
    links += [*_links(THEN, life), ("lineage", "Lineage"), ("how", "How it was measured")]
    items = "".join(f'<li><a href="#{escape(id)}">{escape(title)}</a></li>' for id, title in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _links(chapters: Sequence[Chapter], life: Life) -> list[tuple[str, str]]:
    return [(c.id, c.title) for c in chapters if c.belongs(life)]


def _chapters(chapters: Sequence[Chapter], life: Life, found: list[Effect], notes: Notes) -> str:
    """The chapters that this life has."""
    return "".join(
        f'<section id="{c.id}"><h2>{c.title}</h2><p>{c.said}</p>{c.body(life, found, notes)}</section>'
        for c in chapters
        if c.belongs(life)
    )
