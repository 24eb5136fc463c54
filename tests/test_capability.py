"""What a capability's text says, what is wrong with bad ones, and that writing and reading are inverse."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from weft.core.capability import ACTIONS, SHORT, Capability, Request, parse, render, short_names
from weft.core.errors import BadInput
from weft.core.pattern.shell import quote
from weft.core.resource import requests

NOW = 1_800_000_000.0
HOME = "/nowhere/home"  # nothing here exists, so nothing here is a symlink


def read(spec: str, workspace: str | Path = HOME) -> Capability:
    return parse(spec, workspace=workspace, now=NOW)


@pytest.mark.parametrize(
    ("spec", "actions", "patterns"),
    [
        ("read:./docs", ["file.read"], [f"{HOME}/docs"]),
        ("read:docs/", ["file.read"], [f"{HOME}/docs"]),
        ("read:./", ["file.read"], [HOME]),
        ("read:.", ["file.read"], [HOME]),
        ("read:./docs/**", ["file.read"], [f"{HOME}/docs"]),
        ("read:./docs/.", ["file.read"], [f"{HOME}/docs/."]),
        ("read:./my docs", ["file.read"], [f"{HOME}/my docs"]),
        ("read:'./a & b'", ["file.read"], [f"{HOME}/a & b"]),
        ("read:./a & ./*/b", ["file.read"], [f"{HOME}/a", f"{HOME}/*/b"]),
        ("read:../other", ["file.read"], ["/nowhere/other"]),
        ("read:/", ["file.read"], ["/"]),
        ("read:/**", ["file.read"], ["/"]),
        ("write,read:./x", ["file.read", "file.write"], [f"{HOME}/x"]),
        ("file:./a/**/*.py", ["file.read", "file.write", "file.delete"], [f"{HOME}/a/**/*.py"]),
        ("file.delete:./x", ["file.delete"], [f"{HOME}/x"]),
        ("net:API.github.com.:443", ["net.connect"], ["api.github.com:443"]),
        ("net:*:443", ["net.connect"], ["*:443"]),
        ("net:[::1]:8000-8100", ["net.connect"], ["[::1]:8000-8100"]),
        ("net:2130706433", ["net.connect"], ["127.0.0.1"]),
        ("shell:git log **", ["shell.run"], ["git log **"]),
        ("shell:git log --format='%h x'", ["shell.run"], ["git log '--format=%h x'"]),
        ("shell:make A=1", ["shell.run"], ["make A=1"]),
        ("shell:./run.sh *", ["shell.run"], [f"{HOME}/run.sh *"]),
        ("model:gpt-*", ["model.generate"], ["gpt-*"]),
        ("step:*", ["step.run"], ["**"]),
        ("memory:notes/**", ["memory.read", "memory.write"], ["notes/**"]),
        ("ask:boss", ["human.ask"], ["boss"]),
        ("all", list(ACTIONS), ["**"]),
        ("all:*", list(ACTIONS), ["**"]),
        ("read,net:**", ["file.read", "net.connect"], ["**"]),
    ],
)
def test_patterns(spec: str, actions: list[str], patterns: list[str]) -> None:
    capability = read(spec)
    assert (list(capability.actions), list(capability.patterns)) == (actions, patterns)
    assert read(render(capability, HOME)) == capability


def test_effects_and_options() -> None:
    assert read("ask ask:boss").effect == "ask"
    assert read("ask shell:git push **").patterns == ("git push **",)
    assert read("  deny   read:./.env").effect == "deny"
    assert read("allow read:./x") == read("read:./x")
    full = read('tool:pay uses=3 expires=1h depth=0 note="say \\"why\\""')
    assert (full.uses, full.expires, full.depth, full.note) == (3, NOW + 3600, 0, 'say "why"')
    assert full.patterns == ("pay",)
    assert read("tool:x expires=2w").expires == NOW + 14 * 86400
    assert read("tool:x expires=90").expires == NOW + 90
    assert read("tool:x expires=1.5m").expires == NOW + 90
    assert read("tool:x expires=2027-01-31T18:00Z").expires == 1801418400.0
    assert read("shell:run it uses=1") == msgspec.structs.replace(read("shell:run it"), uses=1)
    assert read("shell:run 'uses=1'").patterns == ("run 'uses=1'",)
    assert read("read:'./x uses=1'").patterns == (f"{HOME}/x uses=1",)
    assert parse("read:./x", workspace=HOME, issuer="human:ann", now=NOW).approval
    assert not parse("deny read:./x", workspace=HOME, issuer="human:ann", now=NOW).approval


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("reed:./docs", "no action 'reed'; did you mean 'read'?"),
        ("file.raed:./docs", "did you mean 'file.read'?"),
        ("shel:rm", "did you mean 'shell'?"),
        ("grant read:./x", "no action"),
        ("", "Grammar: [allow|ask|deny] ACTION"),
        ("read", "no resource after read"),
        ("read:", "Examples: read:./docs"),
        ("read ./x", "no ':'"),
        ("read:**", "./** for the workspace"),
        ("read:./a**b", "write 'a**/*b'"),
        ("read:./*/../x", "'..' after a wildcard"),
        ("read:./[z-a]", "not a glob"),
        ("read:./a\0b", "NUL"),
        ("read:./\ud800", "Unicode"),
        ("read:./" + "x" * 5000, "long"),
        ("read:./x use=3", "did you mean 'uses'?"),
        ("read:./x uses=1 uses=2", "twice"),
        ("read:./x uses=0", "at least 1"),
        ("read:./x uses=many", "whole number"),
        ("read:./x depth=-1", "at least 0"),
        ("read:./x expires=soon", "90s, 30m"),
        ("deny read:./x uses=1", "counts what is allowed"),
        ("read,net:./x", "different kinds"),
        ("net:https://user@evil.com/x", "write 'evil.com:443'"),
        ("net:host:https", "no port"),
        ("net:host:9-8", "smaller first"),
        ("net:host:99999", "65535"),
        ("net:ho*st", "*.example.com"),
        ("net:1.2.3.4.5", "not an address"),
        ("net:a b", "not a host"),
        ("net:10.0.0.0/99", "no network"),
        ("shell:git ** push", "comes last"),
        ("shell:git 'log", "open quote"),
        ("shell:/usr/*/git", "no wildcards"),
    ],
)
def test_bad_specs_say_what_is_wrong(spec: str, said: str) -> None:
    with pytest.raises(BadInput) as raised:
        read(spec)
    assert said in str(raised.value)


def test_paths_are_resolved_through_symlinks(tmp_path: Path) -> None:
    (tmp_path / "real" / "docs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    capability = read("read:./docs/*.md", tmp_path / "link")
    assert capability.patterns == (f"{tmp_path}/real/docs/*.md",)
    (tmp_path / "real" / "out").symlink_to("/etc")
    assert read("read:./out", tmp_path / "link").patterns == ("/etc",)
    assert read("read:./out/*.conf", tmp_path / "link").patterns == ("/etc/*.conf",)


def test_a_workspace_of_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "a [x]*? 'b'"
    odd.mkdir()
    (tmp_path / "link").symlink_to(odd)
    for spec in ("read:./docs", "read:./docs/*.md", "read:./", "read:./docs/."):
        capability = read(spec, odd)
        assert render(capability, odd) == render(capability, tmp_path / "link") == spec
        assert read(render(capability, "/"), "/") == capability


def test_requests_are_in_normal_form(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    assert requests("read", "link/hosts", str(tmp_path)) == [("file.read", "/etc/hosts")]
    assert [action for action, _ in requests("file", "x", str(tmp_path))] == ["file.read", "file.write", "file.delete"]
    assert requests("net", "https://u@API.a.com/x", str(tmp_path)) == [("net.connect", "api.a.com:443")]
    assert requests("net.connect", "[::1]:80", str(tmp_path)) == [("net.connect", "[::1]:80")]
    assert requests("shell", ["./x", "a b"], str(tmp_path)) == [("shell.run", f"{tmp_path}/x 'a b'")]
    assert requests("tool", "search", str(tmp_path)) == [("tool.call", "search")]
    for action, value in [("reed", "x"), ("net", "host"), ("net", "a/b:1"), ("read", ["a"]), ("shell", [])]:
        with pytest.raises(BadInput):
            requests(action, value, str(tmp_path))


def test_home() -> None:
    assert read("read:~/notes").patterns == (f"{Path.home().resolve()}/notes",)


def test_names_are_short_and_all_there() -> None:
    assert short_names(ACTIONS) == "all"
    assert short_names(["file.delete", "file.read", "file.write", "net.connect"]) == "file,net"
    assert short_names(["memory.read"]) == "memory.read"
    assert {action for group in SHORT.values() for action in group} == set(ACTIONS)


def test_a_capability_is_data() -> None:
    capability = read("ask shell:git push ** expires=1h")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(capability), type=Capability) == capability
    assert Request("file.read", "/x") == ("file.read", "/x")


# --- writing is the inverse of reading -----------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
odd = st.sampled_from(
    ["a", "*", "?", "[ab]", "[*]", "**", " ", " & ", "&", "'", '"', "\\", "uses=1", "x=y", "é", "..", "\n", "~"]
)
words = st.one_of(texts, st.lists(odd, min_size=1, max_size=4).map("".join))
files = st.lists(words.filter(lambda word: "/" not in word), min_size=1, max_size=4).map(
    lambda parts: "./" + "/".join(parts)
)
hosts = st.sampled_from(["a.com", "*.b.org", "10.0.0.0/8", "::1", "fd00::/8", "*", "127.1", "bücher.de"])
ports = st.sampled_from(["", ":443", ":1-9"])
nets = st.tuples(hosts, ports).map(
    lambda pair: (f"[{pair[0]}]" if ":" in pair[0] and "/" not in pair[0] else pair[0]) + pair[1]
)
shells = st.lists(words.map(quote), min_size=1, max_size=4).map(" ".join)
capabilities = st.one_of(
    st.tuples(st.sampled_from(["read", "file", "write,read"]), st.lists(files, min_size=1, max_size=3)),
    st.tuples(st.just("net"), st.lists(nets, min_size=1, max_size=3)),
    st.tuples(st.just("shell"), st.lists(shells, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["step,tool", "memory", "rpc"]), st.lists(words, min_size=1, max_size=3)),
)


def double(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@settings(max_examples=500, deadline=None)
@given(
    capabilities,
    st.sampled_from(["allow", "ask", "deny"]),
    st.none() | st.integers(1, 99),
    st.none() | st.floats(1e8, 4e9),
    st.integers(0, 9),
    st.one_of(st.just(""), texts),
)
@example(("memory", ["'"]), "allow", None, None, 8, "")
@example(("shell", ["a '&' 'uses=1'", "b"]), "allow", 1, 1e9 + 0.1, 0, "'\"\\")
def test_render_and_parse_are_inverse(
    what: tuple[str, list[str]], effect: str, uses: int | None, expires: float | None, depth: int, note: str
) -> None:
    names, patterns = what
    joined = " & ".join(patterns if names in ("shell", "net") else map(double, patterns))
    try:
        first = read(f"{effect} {names}:{joined}")
    except BadInput:
        assume(False)
    capability = msgspec.structs.replace(
        first, uses=uses if effect == "allow" else None, expires=expires, depth=depth, note=note
    )
    assert read(render(capability, HOME)) == capability
    assert read(render(capability, "/elsewhere"), "/elsewhere") == capability
