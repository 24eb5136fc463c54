"""Templates of what runs and their tools printed: the algorithm of `weft.core.lines`, applied to files and journals.

    templates = Templates()
    async for text in outputs(store, run):
        for line in text.splitlines():
            templates.parse(line)

`python -m weft.trace.templates.train` trains the tagger that Weft ships, on the made-up lines of `corpus`.
"""

from weft.core.lines import CATEGORIES, Folder, Line, Template, Templates, Value, fold
from weft.trace.templates.outputs import outputs

__all__ = ["CATEGORIES", "Folder", "Line", "Template", "Templates", "Value", "fold", "outputs"]
