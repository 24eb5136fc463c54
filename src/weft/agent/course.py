"""The account of an agent at work: what it has spent since something was said to it, and what its next turn may cost.

Before a turn is taken, the most that it can cost (its prompt, and as many tokens as it may answer) and the most that a
last turn after it can cost must fit what its policy leaves, and what the budget of its process leaves. If they do
not, this is the last turn: the agent is told to hand in, and is given as many tokens as are left. If not even that
fits, it hands in what it has said. So nothing is overrun, and nothing is lost because something was spent.

That holds as far as a prompt takes no more tokens than were reckoned: one for three bytes, or more where the last
reply has shown that the model counts otherwise.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from weft.agent.pace import Pace, Taken
from weft.agent.sub import SubAgent
from weft.core.boundary import place, require
from weft.core.budget import Budget
from weft.core.content import ToolCall, ToolResult
from weft.core.crossing import executing
from weft.core.errors import BadInput, BudgetExceeded
from weft.core.progress import Made, Progress
from weft.core.step import primitive
from weft.model.generate import ANSWER, length
from weft.model.price import money
from weft.model.provider import Asked
from weft.model.request import Reply, Request, Usage
from weft.model.route import Balance, Fallback
from weft.model.spec import where

if TYPE_CHECKING:
    from weft.agent.agent import Agent

FEWEST = 256
"""Tokens that an answer is given before it is the last one."""
LEAST = 16
"""Tokens with which it is worth while to ask at all."""
WORDS = 128
"""Tokens of what is said to the model about its limits, at most."""
RESERVE, SECONDS = 0.1, 5.0
"""What is kept of the seconds for the last turn: this share of them, or so many, or as many as the slowest generation
took; never more than half."""

Price = dict[str, float]
"""By kind."""


class Left:
    """What may still be spent, by the policy and by the process's budget. Seconds are of the clock for the one, and of
    the steps that run for the other."""

    def __init__(self, policy: Price, process: Price) -> None:
        self.policy = policy
        self.process = process

    def of(self, kind: str, unlimited: float = math.inf) -> float:
        """The less of both."""
        return min(self.policy.get(kind, unlimited), self.process.get(kind, unlimited))

    @property
    def priced(self) -> bool:
        """Whether a generation must be bounded."""
        return not {"tokens", "money"}.isdisjoint((*self.policy, *self.process))

    def covers(self, price: Price) -> bool:
        return all(amount <= self.of(kind) for kind, amount in price.items())


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done in a turn. `began`: when it did, by the body's clock. `left`: turns after it, if limited.
    `tokens`: the most that may be answered; None: as many as the agent says. `calls`: the most that are carried out of
    them. `until`: when it must be over; `steps`: seconds that all that it begins may run, together, and `kept`: those
    that are left then. `short`: what the last calls returned does not fit, and is left out. `note`: what the model is
    told of its limits. `share`: what sub-agents may spend."""

    number: int
    began: float
    left: int | None = None
    last: bool = False
    tokens: int | None = None
    calls: float = math.inf
    until: float | None = None
    steps: float | None = None
    kept: float = math.inf
    short: bool = False
    note: str = ""
    share: dict[str, float] = {}

    def seconds(self, at_once: int = 1) -> float | None:
        """How long what begins now may take."""
        found = [] if self.until is None else [self.until - now()]
        found += [] if self.steps is None else [(self.steps - self._gone) / max(1, at_once)]
        return max(0.0, min(found)) if found else None

    @property
    def _gone(self) -> float:
        """Seconds that its generation has taken."""
        return now() - self.began

    def share_of(self, children: int) -> Budget | None:
        """What each of so many sub-agents may spend."""
        if not self.share:
            return None
        gone = {"seconds": self._gone}
        share = {kind: max(0.0, amount - gone.get(kind, 0.0)) / children for kind, amount in self.share.items()}
        return Budget(**share)


Ask = Callable[[bool, bool], Request]
"""The request of a turn: whether it is the last, and whether what the last calls returned is left out."""


class Course:
    """Of one thing that was said to an agent."""

    def __init__(self) -> None:
        self.turns: list[Taken] = []
        self.tokens, self.money = 0, 0.0
        self.began = self._since = now()
        self.slowest = 0.0
        """Seconds of the slowest generation."""
        self.progress = Progress()
        self._paces: dict[str, Pace] = {}
        self._ratio = 1.0
        """Tokens of a prompt, of one that they were reckoned to be."""
        self._reckoned = 0
        """Tokens of the prompt of this turn, as they were reckoned."""
        self._most: Price = {}
        """The most that this turn's generation can cost."""
        self._seconds = 0.0, 0.0
        """How many there were in all, by the policy and in the process's budget."""
        self._unbooked = math.inf
        """Seconds of the budget that are left at least, while what was given up may not be booked yet."""
        self._refusals = 0
        """How often something did not fit the budget any more."""
        self._noted = self._paid = 0
        """The turn of which the model was told last, and that for which the budget was charged last."""

    # --- before a turn ----------------------------------------------------------------------------------------------

    async def next(self, agent: Agent[Any], ask: Ask) -> Turn | None:
        """What may be done in the next turn; None: nothing more."""
        if agent.name not in self._paces:
            self._paces[agent.name] = await agent.pace.known()
        pace = self._paces[agent.name]
        left = await self._left(pace.limits(self.turns).limits())
        turn = self._further(agent, left, ask) if not self._refusals else None
        turn = turn or (self._last(agent, left, ask) if self._refusals < 2 else None)
        if turn is None or not await self._pay(left):
            return None
        self._since = now()
        return msgspec.structs.replace(turn, note=self._note(pace, turn))

    async def _left(self, limits: Price) -> Left:
        """What may still be spent, of each kind that is limited by the policy or by the process's budget."""
        spent = {"turns": len(self.turns), "tokens": self.tokens, "money": self.money, "seconds": now() - self.began}
        mine = {}
        if require("an agent").account is not None:
            try:
                mine = await budget_left()
            except BudgetExceeded:  # more is spent than there was, whoever did
                mine = {"effects": 0.0}
        if "seconds" in mine:
            mine["seconds"] = min(mine["seconds"], self._unbooked)
        self._unbooked = math.inf
        self._seconds = limits.get("seconds", 0.0), max(self._seconds[1], mine.get("seconds", 0.0))
        return Left({kind: limit - spent[kind] for kind, limit in limits.items()}, mine)

    def _further(self, agent: Agent[Any], left: Left, ask: Ask) -> Turn | None:
        """A turn that need not be the last one."""
        if left.of("turns", 2) < 2 or left.of("effects", 3) < (3 if agent.specs else 2):
            return None
        until, steps = self._but_last(left.policy, self._seconds[0]), self._but_last(left.process, self._seconds[1])
        if min(until, steps) <= self.slowest:
            return None
        found = Turn(number=len(self.turns) + 1, began=now(), calls=left.of("effects") - 2)
        spare = {**left.process, "effects": found.calls, "turns": left.of("turns") - 2, "seconds": steps}
        if left.priced:
            prompt, last = self._tokens(ask(False, False)), self._tokens(ask(True, False))
            answers = _answers(agent, FEWEST)
            priced = ((n, self._price(agent, prompt, n), self._price(agent, last + n + WORDS, LEAST)) for n in answers)
            fitting = next((one for one in priced if left.covers(_sum(one[1], one[2]))), None)
            if fitting is None:
                return None
            tokens, self._most, kept = fitting
            spare |= {kind: left.of(kind) - self._most[kind] - kept[kind] for kind in self._most}
            found = msgspec.structs.replace(found, tokens=tokens)
        return msgspec.structs.replace(
            found,
            left=math.floor(left.of("turns")) - 1 if left.of("turns") < math.inf else None,
            until=now() + until if until < math.inf else None,
            steps=steps if steps < math.inf else None,
            kept=left.process.get("seconds", math.inf) - steps if steps < math.inf else math.inf,
            share={kind: max(0.0, spare[kind]) for kind in left.process},
        )

    def _but_last(self, left: Price, limit: float) -> float:
        """Seconds of it without those for the last turn. `limit`: what there was in all."""
        if "seconds" not in left:
            return math.inf
        return left["seconds"] - min(limit / 2, max(self.slowest, RESERVE * limit, SECONDS))

    def _last(self, agent: Agent[Any], left: Left, ask: Ask) -> Turn | None:
        """The last turn, in which nothing can be called, as far as what is left will do."""
        if min(left.of("turns"), left.of("effects")) < 1 or left.of("seconds") <= 0:
            return None
        until, steps = left.policy.get("seconds"), left.process.get("seconds")
        found = Turn(
            number=len(self.turns) + 1,
            began=now(),
            left=0,
            last=True,
            steps=steps,
            until=None if until is None else now() + until,
        )
        if not left.priced:
            return found
        for short in (False, True):
            prompt = self._tokens(ask(True, short))
            for tokens in _answers(agent, LEAST):
                self._most = self._price(agent, prompt, tokens)
                if left.covers(self._most):
                    return msgspec.structs.replace(found, short=short, tokens=tokens)
        return None

    def _tokens(self, request: Request) -> int:
        """The most tokens that its prompt has, words about limits included."""
        self._reckoned = length(request)
        return math.ceil(self._reckoned * self._ratio) + WORDS

    def _price(self, agent: Agent[Any], prompt: int, answer: int) -> Price:
        """The most that so many tokens can cost."""
        usage = Usage(input=prompt, output=answer)
        return {"tokens": prompt + answer, "money": max(_money(spec, usage) for spec in _specs(agent.model))}

    async def _pay(self, left: Left) -> bool:
        """Charge the process's budget for the turn, once. Whether it could be."""
        number = len(self.turns) + 1
        if "turns" in left.process and self._paid < number:
            self._paid = number
            try:
                await require("an agent").pay({"turns": 1}, place())
            except BudgetExceeded:
                return False
        return True

    def _note(self, pace: Pace, turn: Turn) -> str:
        """What the model is told of the turns that are left, once for each turn."""
        if turn.last or turn.left is None or turn.number == self._noted:
            return ""
        if pace.told is not None and turn.left > pace.told:
            return ""
        self._noted = turn.number
        return f"\n[{turn.left + 1} turns are left with this one; in the last one no tool can be called.{pace.hint}]"

    # --- after it ---------------------------------------------------------------------------------------------------

    def answered(self, reply: Reply) -> None:
        """The model has answered."""
        if reply.usage.input and self._reckoned:
            self._ratio = max(1.0, reply.usage.input / self._reckoned)
        self.slowest = max(self.slowest, now() - self._since)
        self.tokens += reply.usage.input + reply.usage.output
        self.money += reply.money or 0.0

    def interrupted(self) -> None:
        """The generation was given up: nobody knows what it did cost, so it counts as the most that it could."""
        self.tokens += int(self._most.get("tokens", 0))
        self.money += self._most.get("money", 0.0)

    def given_up(self, turn: Turn) -> None:
        """Calls were given up as the time of the turn is over. Sub-agents that end now book what they took later."""
        self._unbooked = turn.kept

    def refused(self) -> None:
        """The budget did not allow what was to be done: what comes now is the last turn, or the end."""
        self._refusals += 1

    def over(self, agent: Agent[Any], calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        """The turn is over. `results`: of its calls, and of earlier ones that came meanwhile."""
        arguments = {call.id: call.arguments for call in calls}
        made = [Made(r.name, arguments.get(r.id, r.id), r.text, r.error, _changes(agent, r.name)) for r in results]
        signs = self.progress.saw(made)
        self.turns.append(Taken(signs, len(self.turns) + 1, self.tokens, self.money, now() - self.began))


@primitive(name="budget.left", effect="pure", needs=(), cost={"effects": 0})
async def budget_left() -> dict[str, float]:
    """What the process that asks may still spend, by kind; kinds without a limit are not there. An effect that costs
    nothing."""
    execution: Any = executing.get()
    if execution is None or execution.process.account is None:
        return {}
    found: dict[str, float] = await execution.process.runtime.ledger.left(execution.process.account)
    return found


def now() -> float:
    """The body's clock, which the journal keeps."""
    return asyncio.get_running_loop().time()


def _answers(agent: Agent[Any], least: int) -> Iterator[int]:
    """How many tokens may be answered, the most first: what the agent says. Where it says nothing, and for the last
    answer, half as many, and half of those, as long as they are `least`."""
    said = agent.settings.get("max_tokens")
    tokens = int(said or ANSWER)
    yield tokens
    if said is None or least == LEAST:
        while (tokens := tokens // 2) >= least:
            yield tokens


def _changes(agent: Agent[Any], name: str) -> bool:
    """Whether a call of it may leave something behind."""
    tool = agent.tools.tools.get(name)
    return tool is not None and not isinstance(tool, SubAgent) and tool.impact != "none"


def _sum(one: Price, other: Price) -> Price:
    return {kind: amount + other[kind] for kind, amount in one.items()}


def _specs(model: Asked) -> list[str]:
    """The deployments that may answer."""
    match model:
        case Fallback():
            return [spec for one in model.models for spec in _specs(one)]
        case Balance():
            return [spec for one, _ in model.weights for spec in _specs(one)]
    return [model.spec]


def _money(spec: str, usage: Usage) -> float:
    try:
        found = where(spec)
    except BadInput:  # a model of the user's own
        return 0.0
    kept = msgspec.structs.replace(usage, cache_write=usage.input)  # some take more for a prompt that they keep
    return max(money(found.place, found.name, one) or 0.0 for one in (usage, kept))
