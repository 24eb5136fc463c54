"""Reading journals: what happened, and whether it is what was written."""
