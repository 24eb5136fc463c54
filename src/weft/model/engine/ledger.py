"""What of a generation is settled: the arithmetic of decode, verify, roll back (LLM-42, arXiv 2601.17768).

Tokens that the quick path drew are provisional. A verification feeds a *window* of them in a batch of a fixed shape, so
that what it computes depends on the tokens alone: what it predicts is what counts. Windows lie on a grid: window k has
the tokens k·W up to (k+1)·W. So after a mismatch the same window is computed again, from its beginning, and a token is
always computed in the same row of the same shape, however often and where the generation was rolled back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from weft.core.errors import BadInput, ModelError


class Ledger:
    """The tokens of one generation, of which the first `settled` are final."""

    def __init__(self, window: int, limit: int, end: Collection[int] = ()) -> None:
        if window < 2 or limit < 1:
            raise BadInput(f"a window has 2 tokens or more, not {window}, and a generation 1 or more, not {limit}")
        self.window = window
        self.limit = limit
        self.end = end
        self.tokens: list[int] = []
        self.settled = 0

    def first(self, token: int) -> None:
        """The token after the prompt, which is computed alone and so is final."""
        self.tokens, self.settled = [token], 1

    @property
    def ended(self) -> bool:
        """Whether nothing follows the last token, final or not."""
        return bool(self.tokens) and (self.tokens[-1] in self.end or len(self.tokens) >= self.limit)

    @property
    def done(self) -> bool:
        return self.ended and self.settled == len(self.tokens)

    @property
    def begin(self) -> int:
        """Where the window begins that the last settled token is in."""
        return max(self.settled - 1, 0) // self.window * self.window

    @property
    def inputs(self) -> list[int]:
        """The tokens of that window, as far as they are drawn."""
        return self.tokens[self.begin : self.begin + self.window]

    @property
    def due(self) -> bool:
        """Whether nothing can be drawn until the window is verified."""
        return not self.done and (self.ended or len(self.inputs) == self.window)

    def draw(self, token: int) -> None:
        """A provisional token from the quick path."""
        self.tokens.append(token)

    def settle(self) -> None:
        """All is final: the quick path is known to be exact."""
        self.settled = len(self.tokens)

    def judge(self, predicted: Sequence[int]) -> int:
        """Compare with what the verification predicts after each of `inputs`. Returns how many tokens were rolled back.

        Raises ModelError if it contradicts what an earlier verification of the same tokens said."""
        begin, stop = self.begin, min(len(self.tokens), self.begin + self.window)
        for place in range(begin, self.settled - 1):
            if predicted[place - begin] != self.tokens[place + 1]:
                raise ModelError(
                    "the engine computed the same batch twice with different results, so nothing can be exact on it; "
                    "run `weft doctor`, and let it compute in one thread"
                )
        for place in range(self.settled - 1, stop):
            token = predicted[place - begin]
            if place + 1 == len(self.tokens) and self.ended:
                break
            rolled_back = len(self.tokens) - place - 1
            if rolled_back and self.tokens[place + 1] == token:
                self.settled = place + 2
                continue
            self.tokens[place + 1 :] = [token]
            self.settled = place + 2
            return rolled_back
        return 0
