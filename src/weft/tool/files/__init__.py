"""Files: read, write, edit, search, list, find, move, copy, delete; each is a step that needs exactly what it does.

    text = await files.read_text("notes/todo.md")                 # needs read:./notes/todo.md
    await files.write_text("out/report.md", text)                 # needs write:./out/report.md

    page = await files.read("app.py")                             # for who goes on to change it
    await files.edit("app.py", "port = 80", "port = 8080", seen=page.digest)

A relative path means the process's workspace. What is opened is the real path that was authorised, and nothing that
took its place meanwhile. Files are replaced in one piece: a crash leaves the old one or the new one. Raises Denied, and
OSErrors that say what is wrong (FileNotFoundError, IsADirectoryError, ...).
"""

from __future__ import annotations

from weft.tool.files.editing import Edit, Edited, NoMatch, apply_edit, edit, edit_all, plan_edit, write
from weft.tool.files.reading import Item, exists, find, read, read_bytes, read_text, stat
from weft.tool.files.reading import list_folder as list
from weft.tool.files.searching import search
from weft.tool.files.swapping import NotRead
from weft.tool.files.writing import append_text, copy, delete, make_folder, move, write_bytes, write_text

__all__ = [
    "Edit",
    "Edited",
    "Item",
    "NoMatch",
    "NotRead",
    "append_text",
    "apply_edit",
    "copy",
    "delete",
    "edit",
    "edit_all",
    "exists",
    "find",
    "list",
    "make_folder",
    "move",
    "plan_edit",
    "read",
    "read_bytes",
    "read_text",
    "search",
    "stat",
    "write",
    "write_bytes",
    "write_text",
]
