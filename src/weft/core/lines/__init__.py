"""Lines of text, of logs and of tools' output: which of their words are variables, and the templates they come from.

    templates = Templates()
    line = templates.parse("Served block blk_38865 to /10.251.91.84 in 12 ms")
    line.template.text               # Served block <*> to <*> in <*> ms
    line.values                      # (OID blk_38865), (LOI /10.251.91.84), (TDA 12)
    fold(output)                     # the same text for a reader in a hurry: repeats folded, errors kept

It stands on the ground floor because both what reads journals (`trace`) and what gives outputs to models (`tool`,
`agent`) need it. Variable-aware abstraction: Li et al., "Did We Miss Something Important? Studying and Exploring
Variable-Aware Log Abstraction", ICSE 2023 (arXiv 2304.11391). docs/methods/valb.md says what is different here.
"""


from weft.core.lines.tagger import CATEGORIES, Tagger, tagger


__all__ = ["CATEGORIES", "Tagger", "tagger"]
