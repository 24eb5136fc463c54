"""An automaton for other tools: DOT for Graphviz, PNML (a Petri net) for process mining."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from weft.trace.automata.evidence import END
from weft.trace.automata.model import Automaton

NAMESPACE = "http://www.pnml.org/version-2009/grammar/pnml"
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
KIND = "http://www.pnml.org/version-2009/grammar/pnmlcoremodel"


def to_dot(model: Automaton, least: float = 0.0) -> str:
    """Graphviz: states with how often they were passed, edges with symbol and probability. Edges below `least` are left
    out."""
    lines = [
        "digraph automaton {",
        "  rankdir=LR;",
        "  node [shape=circle];",
        '  start [shape=point, label=""];',
        "  start -> s0;",
    ]
    for number, vertex in enumerate(model.vertices):
        shape = ", shape=doublecircle" if vertex.next.get(END) else ""
        lines.append(f'  s{number} [label="{vertex.passed}"{shape}];')
    for number, symbol, target, share in _edges(model):
        if share >= least:
            lines.append(f'  s{number} -> s{target} [label="{_quoted(symbol)} {share:.2f}"];')
    return "\n".join([*lines, "}"]) + "\n"


def to_pnml(model: Automaton) -> str:
    """A Petri net with one token: a place for each state, a transition for each edge, labelled with its symbol; silent
    transitions lead to the place `end` from wherever a run has ended. pm4py reads it (`pm4py.read_pnml`)."""
    root = ElementTree.Element("pnml", xmlns=NAMESPACE)
    net = ElementTree.SubElement(root, "net", id="automaton", type=KIND)
    page = ElementTree.SubElement(net, "page", id="page")
    for number in range(len(model.vertices)):
        _place(page, f"s{number}", tokens=1 if number == 0 else 0)
    _place(page, "end", tokens=0)
    steps: list[tuple[str, str, str | None]] = [
        *((f"s{number}", f"s{target}", symbol) for number, symbol, target, _ in _edges(model)),
        *((f"s{number}", "end", None) for number, vertex in enumerate(model.vertices) if vertex.next.get(END)),
    ]
    for number, (source, target, symbol) in enumerate(steps):
        transition = ElementTree.SubElement(page, "transition", id=f"t{number}")
        _named(transition, f"t{number}" if symbol is None else symbol)
        if symbol is None:
            ElementTree.SubElement(
                transition, "toolspecific", tool="ProM", version="6.4", activity="$invisible$", localNodeID=f"t{number}"
            )
        for arc, (tail, head) in enumerate(((source, f"t{number}"), (f"t{number}", target))):
            element = ElementTree.SubElement(page, "arc", id=f"a{number}.{arc}", source=tail, target=head)
            _texted(ElementTree.SubElement(element, "inscription"), "1")
    final = ElementTree.SubElement(ElementTree.SubElement(net, "finalmarkings"), "marking")
    _texted(ElementTree.SubElement(final, "place", idref="end"), "1")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _edges(model: Automaton) -> list[tuple[int, str, int, float]]:
    return [
        (number, model.alphabet[symbol], target, vertex.next.get(symbol, 0) / max(1, vertex.passed))
        for number, vertex in enumerate(model.vertices)
        for symbol, target in sorted(vertex.edges.items())
    ]


def _place(page: ElementTree.Element, id: str, tokens: int) -> None:
    place = ElementTree.SubElement(page, "place", id=id)
    _named(place, id)
    if tokens:
        _texted(ElementTree.SubElement(place, "initialMarking"), str(tokens))


def _named(element: ElementTree.Element, name: str) -> None:
    _texted(ElementTree.SubElement(element, "name"), name)


def _texted(element: ElementTree.Element, text: str) -> None:
    ElementTree.SubElement(element, "text").text = NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
