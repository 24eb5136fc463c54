"""Broken conversations, repaired: whatever went wrong, each provider takes the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.conversations import CAN, broken, conversation
from tests.servers.providers.anthropic import Anthropic
from tests.servers.providers.chat import Chat
from tests.servers.providers.gemini import Gemini
from tests.servers.providers.ollama import Ollama
from tests.servers.providers.responses import Responses
from tests.servers.providers.rules import Received, Refused
from weft.core.content import Blob, Text, ToolCall, ToolResult, ToolSpec
from weft.model.dialect import DIALECTS, dialect
from weft.model.message import Message, Opaque, Part, Reasoning
from weft.model.repair import INTERRUPTED, repair
from weft.model.request import Request

# --- each provider's rules, written from its documentation and not from our code ---


def openai_pairs(body: dict[str, Any]) -> None:
    """A message with tool_calls is followed by one tool message for each of them, and by nothing else before."""
    waiting: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting
        ids = [call["id"] for call in message.get("tool_calls", ())]
        waiting = {*ids}
        assert len(waiting) == len(ids)
    assert not waiting


def responses_pairs(body: dict[str, Any]) -> None:
    """Each function_call has one function_call_output, later; a thought is followed by what it led to."""
    called: set[str] = set()
    answered: set[str] = set()
    for at, item in enumerate(body["input"]):
        kind = item.get("type", "message")
        if kind == "function_call":
            assert item["call_id"] not in called
            called.add(item["call_id"])
        elif kind == "function_call_output":
            assert item["call_id"] in called and item["call_id"] not in answered
            answered.add(item["call_id"])
        elif kind == "reasoning":
            assert body["input"][at + 1].get("type") in ("message", "function_call", "reasoning")
    assert called == answered


def anthropic_pairs(body: dict[str, Any]) -> None:
    """The user opens; roles alternate once neighbours are joined; tool_use is answered at once, first thing; its ids
    are unique; no content is empty."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        assert blocks and all(block["type"] != "text" or block["text"].strip() for block in blocks)
        if turns and turns[-1][0] == message["role"]:
            turns[-1][1].extend(blocks)
        else:
            turns.append((message["role"], [*blocks]))
    assert not turns or turns[0][0] == "user"
    used: set[str] = set()
    waiting: list[str] = []
    for role, blocks in turns:
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert sorted(results) == sorted(waiting)
        assert all(block["type"] == "tool_result" for block in blocks[: len(results)])
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert not waiting or role == "assistant"
        assert not used & {*waiting} and len({*waiting}) == len(waiting)
        used |= {*waiting}
    assert not waiting


def gemini_pairs(body: dict[str, Any]) -> None:
    """A turn of calls comes after the user's; the next turn has as many responses, of the same names in their order."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for content in body["contents"]:
        assert content["parts"]
        if turns and turns[-1][0] == content["role"]:
            turns[-1][1].extend(content["parts"])
        else:
            turns.append((content["role"], [*content["parts"]]))
    waiting: list[str] = []
    for at, (role, parts) in enumerate(turns):
        assert [part["functionResponse"]["name"] for part in parts if "functionResponse" in part] == waiting
        waiting = [part["functionCall"]["name"] for part in parts if "functionCall" in part]
        assert not waiting or (role == "model" and at > 0)
    assert not waiting


def ollama_pairs(body: dict[str, Any]) -> None:
    """Templates of models put results right after the calls, know each by its tool, and want turns that alternate."""
    waiting: list[str] = []
    before = ""
    for message in body["messages"]:
        if message["role"] == "tool":
            assert message["tool_name"] == waiting.pop(0)
        else:
            assert not waiting
            assert message["role"] != before
            waiting = [call["function"]["name"] for call in message.get("tool_calls", ())]
        before = message["role"]
    assert not waiting


RULES: dict[str, Callable[[dict[str, Any]], None]] = {
    "openai": openai_pairs,
    "openai-responses": responses_pairs,
    "anthropic": anthropic_pairs,
    "gemini": gemini_pairs,
    "ollama": ollama_pairs,
}
SERVERS: dict[str, Any] = {each.name: each for each in (Chat(), Responses(), Anthropic(), Gemini(), Ollama())}
TOOLS = [ToolSpec(name) for name in ("read", "run", "find")]


def sent(name: str, messages: list[Message]) -> dict[str, Any]:
    """The whole request, taken by the loopback provider or refused as the real one would."""
    call = dialect(name).call("gpt-4.1", Request(messages=messages, tools=TOOLS), stream=False)
    headers = {"content-type": "application/json", **dialect(name).headers("k")}
    headers = {key.lower(): value for key, value in headers.items()}
    body = json.loads(json.dumps(call.body))
    SERVERS[name].check(Received("POST", call.path, {}, headers, b"", body), "k", [])
    return call.body


# --- the fuzz ---


def test_two_thousand_broken_conversations_are_taken_by_every_provider_once_repaired() -> None:
    refused = dict.fromkeys(DIALECTS, 0)
    for seed in range(2000):
        messages = broken(Random(seed))
        fixed, mended = repair(messages)
        assert (fixed == messages) is (not mended), (seed, mended)
        assert repair(fixed) == (fixed, []), seed
        if not any(message.role != "system" for message in fixed):
            continue  # nothing was left that a model could answer
        for name in DIALECTS:
            try:
                RULES[name](dialect(name).write(fixed)[0])
                if seed % 5 == 0:
                    sent(name, fixed)
            except (AssertionError, Refused) as error:
                raise AssertionError(f"{name}, seed {seed}: {error!r}\n{mended}") from error
            try:
                if seed % 5 == 1:
                    sent(name, messages)
            except (Refused, TypeError, AttributeError, KeyError, IndexError):
                refused[name] += 1
    assert refused["openai"] > 200 and refused["anthropic"] > 200, refused  # they were broken indeed


def test_repair_invents_nothing_and_loses_no_words_of_results() -> None:
    for seed in range(500):
        messages = broken(Random(seed))
        fixed, _ = repair(messages)
        said = "".join(part.content for message in fixed for part in message.parts if isinstance(part, Text))
        told = said + "".join(result.text for message in fixed for result in message.results)
        for message in messages:
            for part in message.parts:
                if isinstance(part, ToolResult):
                    assert all(isinstance(p, Blob) or not p.content.strip() or p.content in told for p in part.response)  # type: ignore[union-attr]
                elif isinstance(part, Text) and part.content.strip():
                    assert part.content in said


@pytest.mark.parametrize("name", DIALECTS)
def test_sound_conversations_come_back_as_they_were(name: str) -> None:
    can = CAN[name] - {"neighbours", "two tool messages", "system anywhere"}
    for seed in range(200):
        messages = conversation(Random(seed), can, name)
        assert repair(messages) == (messages, [])


# --- one by one ---

CALL = ToolCall(id="1", name="run", arguments={"a": 1})
OTHER = ToolCall(id="2", name="read")
USER = Message("user", "Go.")


def asked(*calls: Part) -> Message:
    return Message("assistant", calls)


def answer(*results: ToolResult) -> Message:
    return Message("tool", results)


def done(id: str, text: str = "done", name: str = "") -> ToolResult:
    return ToolResult.of(id, text, name=name)


def test_a_missing_result_says_that_the_call_was_interrupted() -> None:
    fixed, mended = repair([USER, asked(CALL, OTHER), answer(done("2"))])
    assert fixed == [
        USER,
        asked(CALL, OTHER),
        answer(ToolResult.of("1", INTERRUPTED, name="run", error=True), done("2")),
    ]
    assert mended == ["the call run (1) had no result: now one says so"]


def test_a_run_cut_off_after_its_calls_is_answered() -> None:
    fixed, _ = repair([USER, asked(CALL)])
    assert fixed[-1].results[0].error and fixed[-1].results[0].id == "1"


def test_an_orphaned_result_is_told_by_the_user_with_its_images() -> None:
    image = Blob.of(b"x", "image/png")
    lost = ToolResult(id="9", name="look", response=(Text(content="seen"), image))
    fixed, mended = repair([USER, Message("assistant", "Yes."), answer(lost), Message("user", "And?")])
    assert fixed[2] == Message("user", ["Result of look, called before:\n", "seen", image, "And?"])
    assert "the result '9' answers no call: it is told by the user now" in mended


def test_a_second_result_of_one_call_is_kept_as_words() -> None:
    fixed, _ = repair([USER, asked(CALL), answer(done("1", "first"), done("1", "second"))])
    assert fixed[2].results[0].text == "first" and "second" in fixed[3].text


def test_ids_that_two_calls_have_are_told_apart_and_results_follow_theirs() -> None:
    fixed, mended = repair([USER, asked(CALL), answer(done("1", "a")), asked(CALL), answer(done("1", "b"))])
    first, second = fixed[1].calls[0].id, fixed[3].calls[0].id
    assert first != second
    assert [(r.id, r.text) for m in fixed for r in m.results] == [(first, "a"), (second, "b")]
    assert len(mended) == 1


def test_two_calls_of_one_turn_with_one_id_get_their_results_in_order() -> None:
    twin = ToolCall(id="1", name="read")
    fixed, _ = repair([USER, asked(CALL, twin), answer(done("1", "a"), done("1", "b"))])
    assert [r.text for r in fixed[2].results] == ["a", "b"]
    assert [r.id for r in fixed[2].results] == [c.id for c in fixed[1].calls] and fixed[2].results[1].id != "1"


def test_a_result_under_a_wrong_id_goes_to_the_call_that_waits() -> None:
    fixed, mended = repair([USER, asked(CALL, OTHER), answer(done("1"), done("x", "words", "read"))])
    assert fixed[2].results == (done("1"), done("2", "words", "read"))
    assert mended == ["a result had the id 'x' instead of '2', its call's"]


def test_results_that_came_late_stand_right_after_their_calls() -> None:
    fixed, mended = repair([USER, asked(CALL), Message("user", "Hurry."), answer(done("1"))])
    assert fixed == [USER, asked(CALL), answer(done("1")), Message("user", "Hurry.")]
    assert mended


def test_results_in_several_messages_are_joined_in_the_order_of_the_calls() -> None:
    fixed, mended = repair([USER, asked(CALL, OTHER), answer(done("2")), answer(done("1"))])
    assert fixed == [USER, asked(CALL, OTHER), answer(done("1"), done("2"))] and mended


def test_instructions_come_first_and_the_user_opens() -> None:
    system = Message("system", "Be brief.")
    fixed, mended = repair([Message("assistant", "Hello."), system, USER])
    assert [m.role for m in fixed] == ["system", "user", "assistant", "user"] and len(mended) == 2


def test_neighbours_are_joined_unless_they_are_two_speakers() -> None:
    ann, bob = Message("user", "Hi.", "ann"), Message("user", "Ho.", "bob")
    fixed, _ = repair([USER, USER, Message("assistant", "a"), Message("assistant", "b")])
    assert fixed == [Message("user", ["Go.", "Go."]), Message("assistant", ["a", "b"])]
    assert repair([ann, bob]) == ([ann, bob], [])


def test_what_is_empty_is_left_out() -> None:
    empty = [Message("user"), Message("user", "  \n"), Message("assistant", ""), Message("tool")]
    fixed, mended = repair([USER, *empty])
    assert fixed == [USER] and len(mended) >= 4


def test_a_thought_that_led_to_nothing_is_left_out_but_one_with_an_answer_stays() -> None:
    thought = Reasoning(content="Hm.")
    assert repair([USER, Message("assistant", [thought])])[0] == [USER]
    whole = [USER, Message("assistant", [thought, "Yes."])]
    assert repair(whole) == (whole, [])


def test_calls_and_results_in_messages_of_others_do_not_stay_there() -> None:
    fixed, mended = repair([Message("user", ["Go.", CALL, done("9")]), Message("system", [done("8", "x")])])
    assert not any(m.calls or m.results for m in fixed) and len(mended) >= 3


def test_what_only_one_provider_understands_stays() -> None:
    search = Opaque(dialect="anthropic", content={"type": "server_tool_use", "id": "s", "name": "x", "input": {}})
    messages = [USER, Message("assistant", [search, "Found."])]
    assert repair(messages) == (messages, [])


def test_what_comes_back_as_it_was_is_another_list() -> None:
    messages = [USER, asked(CALL), answer(done("1"))]
    fixed, _ = repair(messages)
    fixed.append(USER)
    assert len(messages) == 3


@pytest.mark.parametrize(
    "messages",
    [
        [Message("system", "Be brief."), asked(CALL), answer(done("1"))],
        [USER, asked(CALL), answer(done("1")), asked(CALL), answer(done("1"))],
        [USER, asked(CALL, OTHER), answer(done("2"), done("1"))],
        [USER, asked(CALL), answer(done("1", name="read"))],
        [USER, asked(CALL), Message("tool", (done("1"),), "Ann")],
        [USER, asked(CALL)],
        [USER, asked(CALL), USER, answer(done("1"))],
        [USER, Message("user", " ")],
        [USER, Message("system", "Be brief.")],
        [USER, answer(done("1"))],
        [USER, Message("assistant", [Reasoning(content="Hm.")])],
        [Message("user", [Reasoning(content="Hm.")])],
    ],
    ids=range(12),
)
def test_each_way_to_be_unsound_is_seen(messages: list[Message]) -> None:
    fixed, mended = repair(messages)
    assert fixed != messages and mended
    assert repair(fixed) == (fixed, [])


def test_nothing_is_nothing() -> None:
    assert repair([]) == ([], [])
