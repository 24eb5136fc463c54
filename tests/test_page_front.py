"""The front's files: what is in them that is not Weft's, that they name each other as a folder can carry them, and that
they stay small."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from weft.web.page.folder import STATIC, folder_index, write_front

MODULES = sorted(STATIC.rglob("*.js"))
OWN = [path for path in MODULES if path.parent == STATIC]


def test_what_is_not_ours_is_what_it_says_and_has_its_licence() -> None:
    vendor = STATIC / "vendor"
    said = (vendor / "README.md").read_text()
    assert hashlib.sha256((vendor / "preact.js").read_bytes()).hexdigest() in said
    assert "Apache License" in (vendor / "LICENSE-htm.txt").read_text()
    assert "MIT License" in (vendor / "LICENSE-preact.txt").read_text()
    assert [path.name for path in MODULES if path not in OWN] == ["preact.js"]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_modules_import_what_is_there_in_the_form_that_a_folder_carries(path: Path) -> None:
    text = path.read_text()
    code = re.sub(r"/\*\*.*?\*/", "", text, flags=re.DOTALL)  # types are imported in comments
    named = re.findall(r"""\bfrom\s*["'](.+?)["']|\bimport\s*\(?\s*["'](.+?)["']""", code)
    for target in (one or other for one, other in named):
        assert target.startswith("./") and (STATIC / target).is_file(), target
    carried = re.findall(r'(?:\bfrom |\bimport |\bimport\()"\./', code)
    assert len(carried) == len(named)
    assert text.startswith("/**"), "its first lines tell what it is for"
    assert len(text.splitlines()) <= 400


def test_nothing_comes_from_elsewhere_and_no_text_is_taken_for_markup() -> None:
    for path in [*OWN, *STATIC.glob("*.css"), *STATIC.glob("*.html")]:
        text = path.read_text()
        assert not re.findall(r"https?://(?!www\.w3\.org)", text), path.name
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySet|\beval\(|new Function", text), (
            path.name
        )


def test_the_front_is_small() -> None:
    """As it is sent, compressed."""
    sizes = {path: len(gzip.compress(path.read_bytes(), 6)) for path in [*MODULES, *STATIC.glob("*.css")]}
    assert sum(sizes.values()) < 80_000
    first = ["app", "api", "router", "parts", "format", "live", "keys", "theme", "folder", "runs", "style"]
    assert sum(size for path, size in sizes.items() if path.stem in first) < 30_000


def test_a_folder_has_the_whole_front_in_its_index(tmp_path: Path) -> None:
    write_front(tmp_path)
    index = folder_index()
    assert (tmp_path / "index.html").read_text() == index
    assert all(f'"weft/{path.relative_to(STATIC).as_posix()}"' in index for path in MODULES)
    assert "/static/app.js" not in index and "modulepreload" not in index
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} >= {
        "style.css",
        "parts.css",
        "LICENSE-preact.txt",
    }
