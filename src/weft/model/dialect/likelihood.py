"""Scores of labels from the likelihoods of tokens."""

from __future__ import annotations

import msgspec

from weft.model.request import Reply, Request

_UNLIKELY = -30.0
_FRAME = ' \n":{'


def scored(reply: Reply, request: Request, wrapped: bool) -> Reply:
    """With the scores of the labels, if they were asked for, and without likelihoods if they were not.

    A label's score is its log-probability at the first token that is more than quotes and blanks (the second, if the
    first is the name of the field that the answer was wrapped in)."""
    if not request.score:
        return reply
    words = [token for token in reply.logprobs if token.token.strip(_FRAME)][wrapped:]
    scores = dict.fromkeys(request.score, _UNLIKELY)
    for token, logprob in words[0].top if words else ():
        start = token.strip(_FRAME)
        for label in request.score if len(start) > 1 else ():
            if label.startswith(start):
                scores[label] = max(scores[label], logprob)
    kept = reply.logprobs if request.logprobs is not None else ()
    return msgspec.structs.replace(reply, scores=scores, logprobs=kept)
