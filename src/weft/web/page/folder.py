"""The front as files on a disk.

A page that was opened from a disk (`file://`) may neither fetch nor import a module, so its index carries the modules
itself: an import map that names each one and holds its text as a `data:` URL. What it reads are scripts below `data/`
(see `static/folder.js`).
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

STATIC = Path(__file__).parents[1] / "static"
_IMPORT = re.compile(r"""(\bfrom |\bimport |\bimport\()"\./([\w./-]+\.js)\"""")
"""`from "./x.js"`, `import "./x.js"` and `import("./x.js")`: how all modules of the front name each other."""
_PRELOAD = re.compile(r'^ *<link rel="modulepreload".*\n', re.MULTILINE)


def write_front(folder: Path) -> None:
    """`index.html` and `static/`, into `folder`."""
    for path in sorted(STATIC.rglob("*")):
        if path.suffix in (".css", ".svg", ".txt"):  # licences, too: what they are of is in the index
            target = folder / "static" / path.relative_to(STATIC)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (folder / "index.html").write_text(folder_index(), encoding="utf-8")


def folder_index() -> str:
    """`index.html` with all modules in it."""
    scripts = sorted(STATIC.rglob("*.js"))
    modules = {f"weft/{path.relative_to(STATIC).as_posix()}": _module(path) for path in scripts}
    carried = (
        '<meta name="weft-folder" content="1">\n'
        f'    <script type="importmap">{json.dumps({"imports": modules})}</script>\n'
        '    <script type="module">import "weft/app.js";</script>'
    )
    page = _PRELOAD.sub("", (STATIC / "index.html").read_text(encoding="utf-8")).replace('"/static/', '"static/')
    return page.replace('<script type="module" src="static/app.js"></script>', carried)


def _module(path: Path) -> str:
    text = _IMPORT.sub(r'\1"weft/\2"', path.read_text(encoding="utf-8"))
    return "data:text/javascript;base64," + base64.b64encode(text.encode()).decode()
