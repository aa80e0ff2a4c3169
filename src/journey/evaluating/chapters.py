"""What `journey eval` measured, as a page: each measure's chapter, as it stands on the page of a life."""

from collections.abc import Mapping

from journey.checkpoint import Node
from journey.measure import Subject
from journey.measures import load
from journey.report.blocks import Page, Prose, Section
from journey.report.format import join
from journey.report.render import render
from journey.scores import Taken


def page(found: Mapping[str, tuple[Node, Mapping[str, Taken]]]) -> str:
    """A chapter for each measure that was taken of any of the nodes."""
    subjects = {name: Subject(name, node.stage, i) for i, (name, (node, _)) in enumerate(found.items())}
    measures = dict.fromkeys(measure for _, taken in found.values() for measure in taken)
    sections = []
    for measure in map(load, measures):
        seen = {subjects[name]: taken[measure.name] for name, (_, taken) in found.items() if measure.name in taken}
        sections.append(Section(measure.name, measure.title, list(measure.drawn(seen)), Prose(measure.why)))
    return render(
        Page(
            title="Measured by journey eval",
            heading=join(list(found)),
            lede=f"{join([load(measure).title for measure in measures])}.",
            sections=[section for section in sections if section.blocks],
            made_by="journey eval",
            contents=len(sections) > 3,
        )
    )
