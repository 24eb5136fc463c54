"""Embeddings on the real models: against a reading of their files by other means, and as an effect of a workflow."""

from __future__ import annotations

import asyncio
import builtins
import json
import math
import os
import struct
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from tests.programs import drive
from weft.core.codec import decode, encode
from weft.core.errors import BadInput, BudgetExceeded, Denied, MissingExtra, ModelUnavailable, PromptTooLong
from weft.core.record import Outcome
from weft.model import Vectors, cosine, embedder
from weft.model.catalogue import embeddings
from weft.model.encoder import Encoder, shared_encoder
from weft.model.fetch import fetch_entry

TEXTS = [
    "The cat sits on the mat.",
    "Unbelievably, the tokenizer splits antidisestablishmentarianism; café costs 3.50€!",
    "",
    "東京 is in Japan",
]


def vectors(texts: list[str], name: str = "minilm") -> Vectors:
    return asyncio.run(embedder(name)(texts))


# --- equal to a reference made here ----------------------------------------------------------------------------------


def pieces(text: str, vocabulary: dict[str, int]) -> list[int]:
    """WordPiece of uncased BERT, as its paper describes it, written for these tests."""
    stripped = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    spaced = "".join(
        f" {c} " if unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~" or "一" <= c <= "鿿" else c for c in stripped
    )
    ids = []
    for word in spaced.split():
        start, found = 0, []
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in vocabulary:
                    found.append(vocabulary[piece])
                    start = end
                    break
            else:
                found, start = [vocabulary["[UNK]"]], len(word)
        ids += found
    return ids


def test_minilm_is_the_mean_of_the_states_of_its_last_layer() -> None:
    import onnxruntime

    weights, tokenizer = (fetch_entry(file) for file in embeddings["minilm"].files)
    vocabulary = json.loads(tokenizer.read_text())["model"]["vocab"]
    session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    rows = [[vocabulary["[CLS]"], *pieces(text, vocabulary), vocabulary["[SEP]"]] for text in TEXTS]
    width = max(map(len, rows))
    feed = {
        "input_ids": [row + [0] * (width - len(row)) for row in rows],
        "attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in rows],
        "token_type_ids": [[0] * width for _ in rows],
    }
    (states,) = session.run(None, feed)  # all at once, padded
    found = vectors(TEXTS)
    for vector, row, state in zip(found, rows, states.tolist(), strict=True):
        sums = [math.fsum(token[d] for token in state[: len(row)]) for d in range(384)]
        length = math.hypot(*sums)
        assert vector == pytest.approx([value / length for value in sums], abs=1e-5)
    assert found.tokens == sum(len(row) - 2 for row in rows)
    assert (len(found), found.dimensions, found.model) == (4, 384, "minilm")


def test_wordllama_is_the_mean_of_its_tokens_vectors() -> None:
    weights, tokenizer = (fetch_entry(file) for file in embeddings["wordllama"].files)
    vocabulary = json.loads(tokenizer.read_text())["model"]["vocab"]
    data = weights.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    rows = [struct.unpack_from("<256e", data, start + vocabulary[word] * 512) for word in ("▁hello", "▁world")]
    sums = [a + b for a, b in zip(*rows, strict=True)]
    found = vectors(["hello world", ""], "wordllama")
    assert found[0] == pytest.approx([value / math.hypot(*sums) for value in sums], abs=1e-6)
    assert found[1] == [0.0] * 256 and found.tokens == 2


# --- what vectors are for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minilm", "wordllama"])
def test_texts_that_mean_the_same_lie_near(name: str) -> None:
    query, *others = vectors(
        ["How do I delete a file?", "Removing files from the disk", "The weather is nice today", "A recipe for soup"],
        name,
    )
    near, *far = [cosine(query, other) for other in others]
    assert near > 0.25 > max(far) + 0.05
    assert cosine(query, query) == pytest.approx(1)


def test_a_vector_does_not_depend_on_the_texts_beside_it() -> None:
    together = vectors(TEXTS)
    assert [vectors([text])[0] for text in TEXTS] == list(together)


def test_a_text_longer_than_the_window_is_read_to_its_end() -> None:
    soup, moon = "Boil the soup with onions. " * 60, "The moon goes round the earth. " * 60
    both, only_soup, end, start = vectors([soup + moon, soup, "The moon.", "A soup."])
    assert cosine(both, end) > cosine(only_soup, end) + 0.2
    assert cosine(both, start) > 0.3


def test_no_texts_make_no_vectors() -> None:
    assert list(vectors([])) == []


def test_many_callers_at_once_get_their_own() -> None:
    async def all_of_them() -> list[Vectors]:
        return await asyncio.gather(*(embedder("wordllama")([f"text {n}", "the same"]) for n in range(50)))

    every = asyncio.run(all_of_them())
    alone = vectors(["text 7", "text 31", "the same"], "wordllama")
    assert every[7][0] == alone[0] and every[31][0] == alone[1]
    assert all(one[1] == alone[2] for one in every)


@given(st.lists(st.text(max_size=40), max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_text_has_a_vector_of_length_1_or_no_token(texts: list[str]) -> None:
    found = vectors(texts, "wordllama")
    for text, vector in zip(texts, found, strict=True):
        length = math.hypot(*vector)
        assert length == pytest.approx(1, abs=1e-5) or (length == 0 and not text.strip())


def test_a_forked_process_loads_its_own() -> None:
    before = vectors(["fork"], "wordllama").data
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, vectors(["fork"], "wordllama").data)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == before
    os.waitpid(child, 0)


# --- the effect ------------------------------------------------------------------------------------------------------


@weft.workflow(name="embed.asks")
async def asks(texts: list[str], name: str = "minilm") -> Any:
    try:
        found = await embedder(name)(texts)
    except weft.WeftError as error:
        return error
    return found[0], found.tokens


def test_vectors_are_journaled_as_bytes_and_never_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(tmp_path / "journal.db")

    async def first(runtime: weft.Runtime) -> tuple[str, Any, int]:
        run = await runtime.start(asks, ["a journaled text", "another"])
        result = await run
        records = [r for r in await runtime.recovery.records(run.id) if isinstance(r, Outcome)]
        return run.id, result, records[-1].effect

    id, result, last = drive(place, first)
    monkeypatch.setattr(Encoder, "encode", None)

    async def again(runtime: weft.Runtime) -> Any:
        return await (await runtime.fork(id, at=last + 1))

    assert drive(place, again) == result
    assert len(result[0]) == 384 and result[1] == 5


def test_the_journal_holds_4_bytes_for_a_number() -> None:
    found = vectors(["a", "b", "c"])
    assert len(found.data) == 3 * 384 * 4 and len(encode(found)) < len(found.data) + 150
    assert decode(encode(found)) == found


def in_a_run(tmp_path: Path, budget: weft.Budget | None = None, **policy: tuple[str, ...]) -> tuple[Any, Any]:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(asks.options(budget=budget) if budget else asks, ["hello there", "world"])
        return await run, await runtime.ledger.left(run.id)

    policies = weft.Policy(base="workspace", workspace=str(tmp_path), **policy)
    return drive(str(tmp_path / "journal.db"), use, policy=policies)  # type: ignore[no-any-return]


def test_it_needs_the_right_to_the_model(tmp_path: Path) -> None:
    assert in_a_run(tmp_path)[0][1] == 3
    denied, _ = in_a_run(tmp_path, deny=("model:local/minilm",))
    assert isinstance(denied, Denied) and denied.resource == "local/minilm"


def test_its_tokens_are_taken_from_the_budget(tmp_path: Path) -> None:
    _, left = in_a_run(tmp_path, weft.Budget(tokens=100))
    assert left["tokens"] == 97
    refused, left = in_a_run(tmp_path, weft.Budget(tokens=2))
    assert isinstance(refused, BudgetExceeded) and left["tokens"] == 2


# --- bad input -------------------------------------------------------------------------------------------------------


def test_a_text_that_is_far_too_long_is_refused_with_counts() -> None:
    with pytest.raises(PromptTooLong, match=r"text 1 has 20000 tokens, and minilm reads at most 16384; split"):
        vectors(["short", "word " * 20_000])
    with pytest.raises(PromptTooLong, match=r"text 0 has 5000000 characters"):
        vectors(["a" * 5_000_000], "wordllama")


def test_what_is_no_list_of_texts_is_refused() -> None:
    for wrong in ("one text", [b"bytes"], ["good", None]):
        with pytest.raises(BadInput, match="list of texts"):
            vectors(wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="text 1 is no Unicode text"):
        vectors(["good", "half \ud800"])


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"no embedding model named 'nope'; use one of minilm, wordllama"):
        embedder("nope")


def test_vectors_of_two_models_are_not_compared() -> None:
    with pytest.raises(BadInput, match="384 and of 256 numbers"):
        cosine(vectors(["a"])[0], vectors(["a"], "wordllama")[0])


def test_there_are_only_as_many_vectors_as_texts() -> None:
    found = vectors(["a", "b"], "wordllama")
    assert found[-1] == found[1]
    for index in (2, -3):
        with pytest.raises(IndexError):
            found[index]


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_MODELS", str(tmp_path))
    for file in embeddings["wordllama"].files:
        file.path.write_bytes(b"\0" * file.size)  # as long as it should be
    with pytest.raises(ModelUnavailable, match=r"wordllama could not be loaded.*tokenizer.*delete it"):
        Encoder(embeddings["wordllama"]).encode("x", "text 0")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'weft\[embed\]'"):
        Encoder(embeddings["minilm"]).encode("x", "text 0")


def test_weft_alone_loads_none_of_it() -> None:
    import subprocess

    code = "import weft.model, sys; assert not {'numpy', 'onnxruntime', 'tokenizers'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_process_has_one_encoder_for_each_model() -> None:
    assert shared_encoder(embeddings["minilm"]) is shared_encoder(embeddings["minilm"])
