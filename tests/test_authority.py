"""Authorities: order of verdicts, handing on, revocation, uses; against definitions spelled out in the slow way."""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

import pytest
from msgspec import structs

from weft.core.authority import Authority, Decision, line, suggest
from weft.core.capability import ACTIONS, Capability, Request, parse
from weft.core.errors import BadInput
from weft.core.pattern import compiled, subject

NOW = 1_800_000_000.0
HOME = "/nowhere/home"


@lru_cache
def read(spec: str, issuer: str = "user") -> Capability:
    return parse(spec, workspace=HOME, issuer=issuer, now=NOW)


def authority(*specs: str | Capability, process: str = "P") -> Authority:
    return Authority(process, [read(spec) if isinstance(spec, str) else spec for spec in specs])


def file(path: str, action: str = "file.read") -> Request:
    return Request(action, f"{HOME}/{path}" if path else HOME)


MISSING = Decision("deny", None, True)


def test_nothing_is_allowed_that_nobody_allowed() -> None:
    assert authority().decide(file("a"), now=NOW) == MISSING
    held = authority("read:./docs", "step:a")
    assert held.decide(file("docs/x"), now=NOW) == Decision("allow", 0, False)
    assert held.decide(file("x"), now=NOW) == MISSING
    assert held.decide(file("docs/x", "file.write"), now=NOW) == MISSING
    assert held.decide(Request("file.read", "docs/x"), now=NOW) == MISSING
    assert held.decide(Request("file.read", f"{HOME}/docs/../x"), now=NOW) == MISSING
    assert held.decide(Request("file.fly", f"{HOME}/docs/x"), now=NOW) == MISSING
    assert held.decide(Request("step.run", "a"), now=NOW).by == 1


def test_deny_then_approval_then_ask_then_allow() -> None:
    held = authority(
        "all",
        "ask write:./",
        "deny file:./.env",
        read("write:./ok uses=1", issuer="human:ann"),
        read("write:./.env", issuer="human:ann"),
    )
    assert held.decide(file("x"), now=NOW) == Decision("allow", 0, False)
    assert held.decide(file("x", "file.write"), now=NOW) == Decision("ask", 1, False)
    assert held.decide(file("ok", "file.write"), now=NOW) == Decision("allow", 3, False)
    assert held.decide(file("ok", "file.write"), now=NOW, used={3: 1}) == Decision("ask", 1, False)
    assert held.decide(file(".env", "file.write"), now=NOW) == Decision("deny", 2, False)
    assert held.decide(file(".ENV/x", "file.delete"), now=NOW) == Decision("deny", 2, False)


def test_one_without_a_limit_goes_first() -> None:
    held = authority("tool:pay uses=2", read("tool:pay uses=1", "human:ann"), "tool:*")
    assert held.decide(Request("tool.call", "pay"), now=NOW).by == 2
    assert held.decide(Request("tool.call", "pay"), now=NOW, revoked={("P", 2)}).by == 0
    assert held.decide(Request("tool.call", "pay"), now=NOW, revoked={("P", 2)}, used={0: 2}).by == 1
    assert (held.limited(0), held.limited(1), held.limited(2)) == (2, 1, None)


def test_what_ends_a_capability() -> None:
    held = authority(
        "tool:a expires=10", "tool:b uses=1", structs.replace(read("tool:c"), lineage=(("Q", 7), ("R", 1)))
    )
    ask = lambda name, **how: held.decide(Request("tool.call", name), **{"now": NOW, **how}).verdict  # noqa: E731
    assert [ask("a"), ask("a", now=NOW + 9.99), ask("a", now=NOW + 10)] == ["allow", "allow", "deny"]
    assert [ask("b"), ask("b", used={1: 1}), ask("b", used={0: 1}), ask("b", revoked={("P", 1)})] == [
        "allow", "deny", "allow", "deny",
    ]  # fmt: skip
    assert [ask("c", revoked={who}) for who in [("Q", 7), ("R", 1), ("P", 2), ("P", 7)]] == [
        "deny", "deny", "deny", "allow",
    ]  # fmt: skip
    assert not held.lives(0, NOW + 10)
    assert held.lives(2, NOW)


def test_a_refusal_may_name_what_has_ended() -> None:
    held = authority("tool:a expires=10", "tool:b uses=1")
    assert held.lapsed(Request("tool.call", "a")) == 0
    assert held.lapsed(Request("tool.call", "b")) == 1
    assert held.lapsed(Request("tool.call", "c")) is None


def test_an_expired_deny_denies_no_more() -> None:
    held = authority("read:./", "deny read:./x expires=10")
    assert held.decide(file("x"), now=NOW).verdict == "deny"
    assert held.decide(file("x"), now=NOW + 10).verdict == "allow"


# --- handing on ----------------------------------------------------------------------------------------


def test_everything_is_handed_on_one_level_down() -> None:
    held = authority("read:./docs", "write:./ depth=0", "deny read:./docs/key", "ask tool:pay", "tool:x depth=1")
    child = Authority("C", held.delegate(None, "C", now=NOW).capabilities)
    assert child.decide(file("docs/a"), now=NOW).verdict == "allow"
    assert child.decide(file("docs/a", "file.write"), now=NOW) == MISSING
    assert child.decide(file("docs/key"), now=NOW).verdict == "deny"
    assert child.decide(Request("tool.call", "pay"), now=NOW).verdict == "ask"
    grandchild = Authority("G", child.delegate(None, "G", now=NOW).capabilities)
    assert grandchild.decide(file("docs/a"), now=NOW).verdict == "allow"
    assert grandchild.decide(Request("tool.call", "x"), now=NOW) == MISSING
    assert grandchild.decide(file("docs/key"), now=NOW).verdict == "deny"
    lineage = next(
        each for each in grandchild.capabilities if each.actions == ("file.read",) and each.effect == "allow"
    )
    assert [who for who, _ in lineage.lineage] == ["P", "C"]
    assert lineage.depth == 6


def test_what_is_asked_for_is_narrowed_to_what_is_held() -> None:
    held = authority("read:./docs expires=100", "read:./src/*.py", "net:*.a.com:443", "all depth=0")
    given = held.delegate([read("read,write:./"), read("net:**"), read("tool:x")], "C", now=NOW)
    child = Authority("C", given.capabilities)
    assert child.decide(file("docs/a"), now=NOW).verdict == "allow"
    assert child.decide(file("docs/a"), now=NOW + 100).verdict == "deny"
    assert child.decide(file("src/a.py"), now=NOW).verdict == "allow"
    for request in (file("a"), file("docs/a", "file.write"), file("src/a/b.py"), Request("net.connect", "a.com:443")):
        assert child.decide(request, now=NOW) == MISSING
    assert child.decide(Request("net.connect", "x.a.com:443"), now=NOW).verdict == "allow"
    assert given.unmet == [read("tool:x")]
    only = held.delegate([read("read:./docs/sub"), read("deny read:./docs/sub/x")], "D", now=NOW)
    assert [each.patterns for each in only.capabilities] == [
        (f"{HOME}/docs", f"{HOME}/docs/sub"), (f"{HOME}/docs/sub/x",),
    ]  # fmt: skip


def test_the_asker_cannot_make_itself_a_human() -> None:
    held = authority("tool:*", "ask tool:pay")
    forged = structs.replace(read("tool:pay", "human:ann"), lineage=(("X", 1),), depth=99)
    child = Authority("C", held.delegate([forged], "C", now=NOW).capabilities)
    assert child.decide(Request("tool.call", "pay"), now=NOW).verdict == "ask"
    assert [(each.issuer, each.depth) for each in child.capabilities if each.effect == "allow"] == [("user", 7)]


def test_uses_are_moved() -> None:
    held = authority("tool:pay uses=5")
    given = held.delegate([read("tool:pay uses=2")], "C", now=NOW, used={0: 1})
    assert ([each.uses for each in given.capabilities], given.taken) == ([2], {0: 2})
    given = held.delegate(None, "C", now=NOW, used={0: 3})
    assert ([each.uses for each in given.capabilities], given.taken) == ([2], {0: 2})
    given = held.delegate([read("tool:pay uses=4"), read("tool:pay uses=4")], "C", now=NOW)
    assert ([each.uses for each in given.capabilities], given.taken) == ([4, 1], {0: 5})
    assert held.delegate(None, "C", now=NOW, used={0: 5}) == ([], {}, [])
    both = authority("tool:pay uses=5", "tool:*")
    given = both.delegate([read("tool:pay uses=2")], "C", now=NOW)
    assert ([each.uses for each in given.capabilities], given.taken) == ([2], {})
    given = both.delegate([read("tool:pay")], "C", now=NOW)
    assert ([each.uses for each in given.capabilities], given.taken) == ([None], {})


def test_a_deny_in_the_middle_is_not_lifted_for_those_below() -> None:
    held = authority("read:./", "deny read:./x")
    child = Authority("C", held.delegate(None, "C", now=NOW).capabilities)
    grandchild = Authority("G", child.delegate(None, "G", now=NOW).capabilities)
    middle = {("C", number) for number in range(4)} | {("G", number) for number in range(4)}
    for each in (child, grandchild):
        assert each.decide(file("x"), now=NOW, revoked=middle).verdict == "deny"
        assert each.decide(file("x"), now=NOW, revoked={("P", 1)}).verdict == "allow"


def test_a_process_hands_nothing_to_itself() -> None:
    with pytest.raises(BadInput, match="itself"):
        authority("all").delegate(None, "P", now=NOW)


# --- suggestions ---------------------------------------------------------------------------------------


def test_suggestions_allow_exactly_what_was_asked(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    requests = [
        Request("file.read", f"{tmp_path}/docs"),
        Request("file.read", f"{tmp_path}/docs/a [1].md"),
        Request("file.write", f"{tmp_path}/docs/a [1].md"),
        Request("file.read", "/etc/hosts"),
        Request("net.connect", "api.a.com:443"),
        Request("net.connect", "1.2.3.4:443 api.b.com"),
        Request("net.connect", "[::1]:80"),
        Request("shell.run", shlex.join(["git", "commit", "-m", "it's *a* fix", "uses=1"])),
        Request("step.run", "app.fetch"),
        Request("tool.call", "*"),
        Request("memory.read", "ns/'a"),
        Request("memory.write", "ns/'a"),
        Request("clock.read", ""),
    ]
    specs = suggest(requests, tmp_path)
    assert specs[:3] == ["read:/etc/hosts", "read:./docs/.", 'read,write:"./docs/a [[]1].md"']
    assert "net:api.b.com:443" in specs
    assert 'memory:"ns/\'a"' in specs
    held = Authority("P", [parse(spec, workspace=tmp_path, now=NOW) for spec in specs])
    for request in requests:
        assert held.decide(request, now=NOW).verdict == "allow", request
    for request in (
        Request("file.read", f"{tmp_path}/docs/b"), Request("file.write", "/etc/hosts"), Request("tool.call", "x"),
        Request("shell.run", "git commit"), Request("net.connect", "api.a.com:80"), Request("step.run", "app.fetch2"),
    ):  # fmt: skip
        assert held.decide(request, now=NOW) == MISSING, request
    assert suggest([*requests, *requests], tmp_path) == specs


def test_the_line_to_add() -> None:
    assert line(file("docs/a.md"), HOME) == "--allow read:./docs/a.md"
    assert line(file("my docs/a.md"), HOME) == "--allow 'read:\"./my docs/a.md\"'"
    assert line(Request("shell.run", "git push"), HOME) == "--allow 'shell:git push'"
    assert line(Request("rpc.call", "e/m"), HOME) == "--allow rpc:e/m"


# --- the index says what a walk over the list says -----------------------------------------------------

FILES = ["", "a", "a/b", "a/b.md", "a/b/c", "A", "a/.env", "b/x.md", "bb/x1", "é", "e\u0301"]
NAMES = ["a", "a/b", "ab", "b1/x", "A", "ｂ1/x", ""]
HOSTS = ["a.com:1", "x.a.com:443", "10.1.2.3:443", "[::1]:80", "localhost:80", "10.9.9.9:1 x.a.com"]
COMMANDS = ["git status", "git push -f", "/bin/git status", "sh -c 'git push'", "rm x", "env rm x", "sh -c 'eval x'"]
PATTERNS = {
    "file": [
        "./",
        "./a",
        "./a/b",
        "./a/*",
        "./*/x*",
        "./**/*.md",
        "./b*/x1",
        "./é",
        "./[ab]/**",
        "./a/.",
        "/",
        "./**/.env",
    ],
    "name": ["a", "a/*", "*", "a*", "*1/x", "a/**", "**/b", "b1/*"],
    "net": ["a.com", "*.a.com", "*:443", "10.0.0.0/8", "0.0.0.0/0", "localhost", "[::1]:80", "10.1.2.3:443"],
    "shell": ["git status", "git **", "git push **", "rm *", "*", "g* **", "sh **", "/bin/git **"],
}
RESOURCES = {"file": [f"{HOME}/{path}".rstrip("/") for path in FILES], "name": NAMES, "net": HOSTS, "shell": COMMANDS}


def draw(rng: random.Random, kind: str) -> Capability:
    action = rng.choice([action for action, of in ACTIONS.items() if of == kind])
    patterns = " & ".join(rng.choice(PATTERNS[kind]) for _ in range(rng.choice([1, 1, 1, 2])))
    capability = read(f"{rng.choice(['allow', 'allow', 'allow', 'ask', 'deny'])} {action}:{patterns}")
    if rng.random() < 0.05:
        capability = structs.replace(read("all"), effect=capability.effect)
    return structs.replace(
        capability,
        issuer=rng.choice(["user", "user", "human:ann"]),
        expires=rng.choice([None, None, NOW - 1, NOW + 1]),
        uses=rng.choice([None, 1, 2]) if capability.effect == "allow" else None,
        lineage=rng.choice([(), (), (("R", 0),), (("R", 0), ("S", 1))]),
    )


def walk(held: Authority, request: Request, revoked: set[tuple[str, int]], used: dict[int, int]) -> Decision:
    """What `decide` must say, by looking at every capability."""
    kind = ACTIONS[request.action]
    what = subject(kind, request.resource)
    found: dict[str, list[tuple[bool, int]]] = {"deny": [], "approval": [], "ask": [], "allow": []}
    for number, each in enumerate(held.capabilities):
        chain = [*each.lineage, (held.process, number)]
        dead = (
            (each.expires is not None and each.expires <= NOW)
            or (each.uses is not None and used.get(number, 0) >= each.uses)
            or any(who in revoked for who in (chain if each.effect == "allow" else chain[:1]))
        )
        if dead or request.action not in each.actions:
            continue
        matchers = [compiled(kind, pattern) for pattern in each.patterns]
        if all((m.allows if each.effect == "allow" else m.catches)(what) for m in matchers):
            found[each.effect].append((each.uses is not None, number))
            if each.approval:
                found["approval"].append((each.uses is not None, number))
    if found["deny"]:
        return Decision("deny", min(found["deny"])[1], False)
    if found["ask"]:
        if found["approval"]:
            return Decision("allow", min(found["approval"])[1], False)
        return Decision("ask", min(found["ask"])[1], False)
    return Decision("allow", min(found["allow"])[1], False) if found["allow"] else MISSING


def test_the_index_says_what_a_walk_says() -> None:
    for seed in range(1_500):
        rng = random.Random(seed)
        kinds = rng.choice([["file"], ["name"], ["net"], ["shell"], list(PATTERNS)])
        held = Authority("P", [draw(rng, rng.choice(kinds)) for _ in range(rng.choice([1, 3, 10, 30]))])
        revoked = {rng.choice([("R", 0), ("S", 1), ("P", rng.randrange(5))]) for _ in range(rng.choice([0, 0, 1, 2]))}
        used = {number: 1 for number in range(len(held.capabilities)) if rng.random() < 0.3}
        for _ in range(10):
            kind = rng.choice(kinds)
            action = rng.choice([action for action, of in ACTIONS.items() if of == kind])
            request = Request(action, rng.choice(RESOURCES[kind]))
            decision = held.decide(request, now=NOW, revoked=revoked, used=used)
            assert decision == walk(held, request, revoked, used), (seed, request)


# --- ten thousand trees of delegation -------------------------------------------------------------------
# The definitions here know nothing of how authorities work: a right matches what its own pattern and the right it
# came from match, and lives while they live. Patterns are predicates.

Spot = Callable[[str], bool]
SPOTS: dict[str, Spot] = {
    "./": lambda path: True,
    "./a": lambda path: path == "a" or path.startswith("a/"),
    "./a/b": lambda path: path == "a/b" or path.startswith("a/b/"),
    "./b": lambda path: path == "b" or path.startswith("b/"),
    "./a/*.md": lambda path: fnmatchcase(path, "a/*.md") and path.count("/") == 1,
    "./**/*.md": lambda path: path.endswith(".md"),
    "./*": lambda path: path != "" and "/" not in path,
}
BLOCKED: dict[str, Spot] = {
    "./a/b": SPOTS["./a/b"],
    "./b": SPOTS["./b"],
    "./**/*.md": lambda path: path.endswith(".md") or ".md/" in path,
}
PATHS = ["", "a", "b", "a/b", "a/b/c", "a/x.md", "b/x.md", "a/b/y.md", "c.md", "c"]


@dataclass
class Right:
    """A capability as the definitions see it."""

    process: str
    number: int
    effect: str
    actions: frozenset[str]
    spots: list[Spot]
    parent: Right | None
    expires: float | None
    uses: int | None
    spent: int = 0
    acted: int = 0

    def chain(self) -> list[Right]:
        return [*(self.parent.chain() if self.parent else []), self]

    def matches(self, action: str, path: str) -> bool:
        return all(action in each.actions and all(spot(path) for spot in each.spots) for each in self.chain())

    def lives(self, now: float, revoked: set[tuple[str, int]]) -> bool:
        chain = self.chain() if self.effect == "allow" else self.chain()[:1]
        gone = any((each.process, each.number) in revoked for each in chain)
        return not gone and all(each.expires is None or now < each.expires for each in self.chain())


@dataclass
class Tree:
    """Processes with their authorities, and the rights that the definitions say they have."""

    rng: random.Random
    now: float = NOW
    held: dict[str, Authority] = field(default_factory=dict)
    rights: dict[str, list[Right]] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    revoked: set[tuple[str, int]] = field(default_factory=set)

    def used(self, process: str) -> dict[int, int]:
        return {right.number: right.spent for right in self.rights[process] if right.spent}

    def spec(self, top: bool) -> tuple[Capability, Spot]:
        rng = self.rng
        effect = rng.choice(["allow"] * 4 + ["deny", "ask"])
        pattern = rng.choice(list(SPOTS if effect == "allow" else BLOCKED))
        capability = structs.replace(
            read(f"{effect} {rng.choice(['read', 'read,write', 'file', 'write'])}:{pattern}"),
            uses=rng.choice([None, None, 1, 3]) if effect == "allow" else None,
            expires=rng.choice([None, None, None, self.now + rng.choice([1, 5, 20])]),
            depth=rng.choice([0, 1, 2, 8]),
            issuer=rng.choice(["user", "user", "human:ann"]) if top else "model",
        )
        return capability, (SPOTS if effect == "allow" else BLOCKED)[pattern]

    def root(self) -> None:
        drawn = [self.spec(top=True) for _ in range(self.rng.randint(1, 6))]
        self.add("p0", None, [capability for capability, _ in drawn], {})
        for right, (_, spot) in zip(self.rights["p0"], drawn, strict=True):
            right.spots = [spot]

    def add(self, name: str, parent: str | None, capabilities: list[Capability], spots: dict[str, Spot]) -> None:
        self.held[name], self.parents[name] = Authority(name, capabilities), parent
        self.rights[name] = []
        for number, each in enumerate(capabilities):
            above = None
            if each.lineage:
                process, place = each.lineage[-1]
                assert process == parent
                above = self.rights[process][place]
                assert tuple((right.process, right.number) for right in above.chain()) == each.lineage
                assert each.effect != "allow" or each.issuer == self.held[process].capabilities[place].issuer
                assert each.effect != "allow" or 0 <= each.depth < self.held[process].capabilities[place].depth
            own = [spots[pattern] for pattern in each.patterns[-1:] if pattern in spots]
            right = Right(name, number, each.effect, frozenset(each.actions), own, above, each.expires, each.uses)
            self.rights[name].append(right)

    def delegate(self) -> None:
        parent = self.rng.choice(list(self.held))
        name = f"p{len(self.held)}"
        drawn = None if self.rng.random() < 0.3 else [self.spec(top=False) for _ in range(self.rng.randint(0, 3))]
        specs = None if drawn is None else [capability for capability, _ in drawn]
        given = self.held[parent].delegate(specs, name, now=self.now, revoked=self.revoked, used=self.used(parent))
        self.add(name, parent, given.capabilities, {c.patterns[0]: spot for c, spot in drawn or ()})
        for number, count in given.taken.items():
            self.rights[parent][number].spent += count
            assert self.rights[parent][number].spent <= (self.rights[parent][number].uses or 0)
        if drawn is not None:
            self.covered(parent, name, drawn)

    def covered(self, parent: str, child: str, drawn: list[tuple[Capability, Spot]]) -> None:
        """What was asked for without a limit, and is held without one, is given."""
        for spec, spot in drawn:
            for path in PATHS:
                for action in spec.actions if spec.effect == "allow" and spec.uses is None else ():
                    holders = [
                        right for right in self.rights[parent]
                        if right.effect == "allow" and right.uses is None and right.matches(action, path)
                        and right.lives(self.now, self.revoked)
                        and self.held[parent].capabilities[right.number].depth > 0
                    ]  # fmt: skip
                    if holders and spot(path) and (spec.expires is None or spec.expires > self.now):
                        assert any(
                            right.effect == "allow" and right.uses is None and right.matches(action, path)
                            for right in self.rights[child]
                        )

    def says(self, process: str, action: str, path: str, *, counting: bool = True) -> str:
        """The verdict by definition."""
        speak = [
            right for right in self.rights[process]
            if right.matches(action, path) and right.lives(self.now, self.revoked)
            and not (counting and right.uses is not None and right.spent >= right.uses)
        ]  # fmt: skip
        effects = {right.effect for right in speak}
        approved = any(
            right.effect == "allow" and self.held[process].capabilities[right.number].issuer.startswith("human:")
            for right in speak
        )
        if "deny" in effects:
            return "deny"
        if "ask" in effects:
            return "allow" if approved else "ask"
        return "allow" if "allow" in effects else "deny"

    def check(self) -> None:
        process, path = self.rng.choice(list(self.held)), self.rng.choice(PATHS)
        action = self.rng.choice(["file.read", "file.write", "file.delete"])
        request = file(path, action)
        decision = self.held[process].decide(request, now=self.now, revoked=self.revoked, used=self.used(process))
        assert decision.verdict == self.says(process, action, path)
        if decision.verdict != "allow":
            return
        assert decision.by is not None
        right = self.rights[process][decision.by]
        for above in right.chain():  # whoever it came from may do it too, uses aside
            assert (above.process, above.number) not in self.revoked
            theirs = self.held[above.process].decide(request, now=self.now, revoked=self.revoked)
            assert theirs.verdict == self.says(above.process, action, path, counting=False) == "allow"
        if right.uses is not None and self.rng.random() < 0.7:
            right.spent += 1
            for above in right.chain():
                above.acted += 1

    def settle(self) -> None:
        """No right was acted on, by whomever it went to, more often than it was granted."""
        for rights in self.rights.values():
            for right in rights:
                assert right.uses is None or right.acted <= right.uses
                assert right.uses is None or right.spent <= right.uses


def test_ten_thousand_delegation_trees() -> None:
    for seed in range(10_000):
        tree = Tree(random.Random(seed))
        tree.root()
        for _ in range(tree.rng.randint(4, 14)):
            move = tree.rng.random()
            if move < 0.3 and len(tree.held) < 7:
                tree.delegate()
            elif move < 0.4:
                process = tree.rng.choice([name for name in tree.held if tree.held[name].capabilities] or ["p0"])
                tree.revoked.add((process, tree.rng.randrange(max(1, len(tree.held[process].capabilities)))))
            elif move < 0.45:
                tree.now += tree.rng.choice([1, 4])
            else:
                try:
                    tree.check()
                except AssertionError as error:
                    raise AssertionError(f"seed {seed}: {error}") from error
        tree.settle()
