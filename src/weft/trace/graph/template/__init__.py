"""The template of a workflow: what it could make, read from its Python. `extract.template_of` is the way in."""
