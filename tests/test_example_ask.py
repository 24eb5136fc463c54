"""The example `ask_repository`: what is found, what is not, and an agent that can't cite what is not there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "ask_repository.py"
sys.path.insert(0, str(EXAMPLE.parent))

import ask_repository as example  # noqa: E402
from ask_repository import Found, ask_repository, by_words, cut_up, words  # noqa: E402

import weft  # noqa: E402
from tests.programs import drive  # noqa: E402
from weft.core.errors import ModelError  # noqa: E402
from weft.model import Request, script  # noqa: E402
from weft.tool import ToolCall  # noqa: E402

FILES = {
    "docs/backup.md": "# Backups\n\nEvery night we copy it.\n\n## Restore\n\nRun `restore.sh` to restore a backup.\n",
    "src/shop.py": "import cart\n\n\ndef emptyCart(cart):\n    cart.clear()\n\n\ndef total(it):\n    return sum(it)\n",
    "README.md": "# Shop\n\nA shop for tea.\n",
    "secret.txt": "restore restore backup\n",
    "photo.md": "\0restore",
}  # fmt: skip
TOOLS = ("tool:read_file", "tool:search_files", "tool:find_files")


@pytest.fixture
def repo(workspace: Path) -> Path:
    for path, text in FILES.items():
        (workspace / path).parent.mkdir(exist_ok=True)
        (workspace / path).write_text(text)
    return workspace


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of MiniLM: how many of the question's words a passage has."""

    async def nearest(question: str, found: list[example.Passage]) -> list[tuple[float, example.Passage]]:
        wanted = set(words(question))
        near = [(len(wanted & set(words(one.whole))) / len(wanted), one) for one in found]
        return sorted(near, key=lambda one: -one[0])

    monkeypatch.setattr(example, "nearest", nearest)


def asked(folder: Path, question: str, model: str = "", deny: tuple[str, ...] = ()) -> Found:
    policy = weft.Policy(base="program", allow=("read:./", "model:script/ask", "model:local/minilm", *TOOLS), deny=deny)
    store = str(folder.parent / "journal.db")
    found: Found = drive(store, lambda r: r.run(ask_repository, question, ".", model), policy=policy)
    return found


def test_words_are_without_endings_and_names_in_code_are_words() -> None:
    assert words("How is the emptyCart restored, restoring 42?") == ["empty", "cart", "restor", "restor", "42"]


def test_a_file_is_cut_at_its_headings_and_functions() -> None:
    found = cut_up("shop.py", FILES["src/shop.py"])
    assert [(one.start, one.text.split("\n")[0]) for one in found] == [
        (1, "import cart"), (4, "def emptyCart(cart):"), (8, "def total(it):"),
    ]  # fmt: skip
    assert cut_up("empty.py", "") == []
    best = by_words([("shop.py", FILES["src/shop.py"])], {"empty": 2.0, "cart": 0.5})
    assert best[0].start == 4 and best[0].source("Where is the cart cleared?") in ("shop.py:4", "shop.py:5")


def test_the_place_is_cited(repo: Path, near: None) -> None:
    found = asked(repo, "How is a backup restored?", deny=("read:./secret.txt",))
    assert found.known and found.sources[0] == "docs/backup.md:7" and "7\tRun `restore.sh`" in found.answer
    assert not any("secret" in source or "photo" in source for source in found.sources)


def test_what_is_not_there_is_not_known(repo: Path, near: None) -> None:
    assert not asked(repo, "Which recipe makes the best tomato soup?").known
    assert asked(repo, "the of and?").sources == []


def test_an_agent_searches_on_and_what_it_cites_is_there(repo: Path, near: None) -> None:
    told: list[str] = []
    lines = iter(["src/shop.py:99", "src/none.py:1", "/etc/passwd:1"])

    def read(request: Request) -> Any:
        if not any(message.results for message in request.messages):
            assert "docs/backup.md:" in request.messages[-1].text
            return ToolCall(id="a", name="search_files", arguments={"pattern": "clear"})
        told.append(request.messages[-1].text)
        return f'{{"answer": "It clears.", "known": true, "sources": ["{next(lines)}"]}}'

    script(read, name="ask")
    with pytest.raises(example.Tripped, match="/etc/passwd:1 is no line"):
        asked(repo, "How is a backup restored, or the cart emptied?", "script:ask")
    assert "'src/shop.py:99' is no line" in told[1] and "'src/none.py:1' is no line" in told[2]


def test_an_agent_that_reads_hands_in_with_its_lines(repo: Path, near: None) -> None:
    answers = iter([
        '{"answer": "So it is.", "known": true, "sources": []}',
        '{"answer": "cart.clear() empties it.", "known": true, "sources": ["src/shop.py:5"]}',
    ])  # fmt: skip
    script(lambda request: next(answers), name="ask")
    assert asked(repo, "How is the cart emptied?", "script:ask") == Found(
        "cart.clear() empties it.", True, ["src/shop.py:5"]
    )


def test_with_minilm_meaning_counts(repo: Path) -> None:
    pytest.importorskip("onnxruntime", reason="embeddings need weft[embed]")
    try:
        found = asked(repo, "How do I get a backup back?")
    except ModelError as error:
        pytest.skip(f"MiniLM is not on this machine: {error}")
    assert found.sources[0].startswith("docs/backup.md")
