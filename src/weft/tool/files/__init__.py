"""Files: read, write, list, find, move, copy, delete; each is a step that needs exactly what it does.

    text = await files.read_text("notes/todo.md")                 # needs read:./notes/todo.md
    await files.write_text("out/report.md", text)                 # needs write:./out/report.md

A relative path means the process's workspace. What is opened is the real path that was authorised, and nothing that
took its place meanwhile. Files are replaced in one piece: a crash leaves the old one or the new one. Raises Denied, and
OSErrors that say what is wrong (FileNotFoundError, IsADirectoryError, ...).
"""

from __future__ import annotations

from weft.tool.files.reading import Item, exists, find, read_bytes, read_text, stat
from weft.tool.files.reading import list_folder as list
from weft.tool.files.writing import append_text, copy, delete, make_folder, move, write_bytes, write_text

__all__ = [
    "Item",
    "append_text",
    "copy",
    "delete",
    "exists",
    "find",
    "list",
    "make_folder",
    "move",
    "read_bytes",
    "read_text",
    "stat",
    "write_bytes",
    "write_text",
]
