"""Lines of text, of logs and of tools' output: which of their words are variables, and the templates they come from.

    templates = Templates()
    line = templates.parse("Sent block blk_38865 to /10.251.91.84 in 12 ms")
    line.template.text           # Sent block <*> to <*> in <*> ms
    line.values                  # [Value("OID", "blk_38865"), Value("LOI", "/10.251.91.84"), Value("TDA", "12")]
    line.shown(keep={"TDA"})     # Sent block <*> to <*> in 12 ms
    fold(output)                 # the same text for a reader who pays by the word: repeats are counted

It stands on the ground floor because what reads journals (`trace`) and what gives outputs to models (`tool`, `agent`)
both need it. Variable-aware abstraction: Li et al., "Did We Miss Something Important? Studying and Exploring
Variable-Aware Log Abstraction", ICSE 2023 (arXiv 2304.11391). docs/methods/valb.md says what is different here.
"""

from weft.core.lines.fold import KEPT, Folder, fold
from weft.core.lines.tagger import CATEGORIES, Tagger, tagger
from weft.core.lines.templates import Line, Template, Templates, Value

__all__ = ["CATEGORIES", "KEPT", "Folder", "Line", "Tagger", "Template", "Templates", "Value", "fold", "tagger"]
