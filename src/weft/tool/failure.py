"""What a model is told when a call of a tool fails."""


class ToolRetry(Exception):
    """Raised by a tool or a hook: this call came to nothing, and the message tells the model what to do instead."""
