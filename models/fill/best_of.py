"""The best of several drafts by what each is worth: the surest way to a better answer, for as many times the
work. A bundle judges by the rewards that its network was aligned with."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from symusic import Score

from models.fill.request import FillRequest

Worth = Callable[[FillRequest, Score], float]  # of an answer to a request, higher is better
STRIDE = 104_729  # from the seed of one draft to that of the next
SEEDS = 2**31 - 9  # what seeds are counted round


def drafts(requests: Sequence[FillRequest], best_of: int) -> list[FillRequest]:
    """`best_of` requests in a row for each, alike but for the seed; the first has the seed that was asked."""
    return [
        replace(request, seed=(request.seed + k * STRIDE) % SEEDS if k else request.seed)
        for request in requests
        for k in range(best_of)
    ]


def best(
    requests: Sequence[FillRequest], scores: Sequence[Score], best_of: int, worth: Worth | None
) -> list[int]:
    """Indices of the draft with the highest reward (the first of equals) of every `best_of` in a row. Raises
    ValueError where there are no rewards to choose by."""
    if best_of == 1:
        return list(range(len(scores)))
    if worth is None:
        raise ValueError(
            "there are no rewards to choose drafts by: give those of a bundle, or leave best_of at 1"
        )
    won = [worth(request, score) for request, score in zip(requests, scores, strict=True)]
    return [max(range(first, first + best_of), key=won.__getitem__) for first in range(0, len(won), best_of)]
