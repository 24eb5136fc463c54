"""The command line."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `weft` command."""
    from weft.cli import app

    app.main()
