"""Checks of what Weft promises, larger than a test: models, interleavings, definitions."""
