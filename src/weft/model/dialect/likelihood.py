"""Scores of labels from the likelihoods of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from weft.model.request import Likely

_UNLIKELY = -30.0
_FRAME = ' \n":{'


def scores(labels: Sequence[str], tokens: Sequence[Likely], wrapped: bool) -> dict[str, float]:
    """Each label's log-probability at the first token that is more than quotes and blanks (the second, if the first
    is the name of the field the answer was wrapped in)."""
    words = [token for token in tokens if token.token.strip(_FRAME)][wrapped:]
    found = dict.fromkeys(labels, _UNLIKELY)
    for token, logprob in words[0].top if words else ():
        start = token.strip(_FRAME)
        for label in labels if len(start) > 1 else ():
            if label.startswith(start):
                found[label] = max(found[label], logprob)
    return found
