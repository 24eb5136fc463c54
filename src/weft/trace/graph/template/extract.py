"""The template of a workflow from the source of its function: branches that no run took are in it, too.

    template = template_of(my_workflow)

The body is walked once, statement by statement, as it would run. At each point a *frontier* is known: the vertices that
may have come last in this line of control. A new vertex gets an edge from each of them. Branches unite their frontiers;
a loop leads back; `asyncio.gather`, tasks, task groups, `weft.map` and children run beside what follows, and their last
vertices come before what waits for them. Functions of the program are walked where they are called, a recursive call
leads back to the function's entry, and workflows that are called are walked as children.

A call that can't be told (a function that came as an argument, code that a model wrote) becomes a vertex of kind
`dynamic`; an agent, whose model decides, one of kind `agent`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weft.core.errors import BadInput
from weft.core.workflow import Workflow
from weft.trace.graph.shape import contracted
from weft.trace.graph.template.frame import Builder, Frame
from weft.trace.graph.template.scope import Scope, helper_of
from weft.trace.graph.template.template import Template
from weft.trace.graph.template.when import Times, When


def template_of(workflow: Workflow[..., Any] | Callable[..., Any]) -> Template:
    """Raises BadInput for what is no workflow or async function, and for one whose source can't be read."""
    from weft.trace.graph.template.statements import body

    fn = workflow.fn if isinstance(workflow, Workflow) else workflow
    if not callable(fn) or not hasattr(fn, "__code__"):
        raise BadInput(f"{workflow!r} has no template: give a workflow")
    helper = helper_of(fn)
    scope = Scope(helper)
    given: dict[str, When] = dict.fromkeys(scope.parameters, "start")
    builder = Builder(fn.__module__)
    start = builder.control("start", helper.file, helper.definition.lineno)
    frame = Frame(helper, scope, Times(helper.definition, given))
    last = body(builder, frame, helper.definition.body, {start}) | frame.exits
    last = builder.end_children(frame, last)
    end = builder.control("end", helper.file, helper.definition.end_lineno or helper.definition.lineno)
    builder.link(last | builder.loose(), end)
    name = workflow.name if isinstance(workflow, Workflow) else fn.__qualname__
    whole = Template(builder.vertices.values(), builder.edges, name, builder.sites)
    tidy = contracted(whole, lambda vertex: vertex.kind == "call")
    return Template(tidy.vertices.values(), tidy.edges, name, builder.sites)
