"""Drawing the next token."""

import numpy as np


def choose(
    scores: np.ndarray, legal: np.ndarray, draws: np.ndarray, temperature: np.ndarray, top_p: np.ndarray
) -> np.ndarray:
    """Sample one legal token a row: scores (R, V) in float64, draws uniform in [0, 1). Nucleus sampling:
    Holtzman et al. 2020.

    Example: probabilities .5 .3 .2 and top_p .6 keep the first two (.5 alone is short of .6), then draw among
    .625 .375.
    """
    picked = np.empty(len(scores), dtype=np.int64)
    for row in range(
        len(scores)
    ):  # few tokens are legal: sorting those of one row is faster than all of a batch
        tokens = legal[row].nonzero()[0]
        if len(tokens) == 1:
            picked[row] = tokens[0]
            continue
        scaled = scores[row, tokens] / temperature[row]
        weights = np.exp(scaled - scaled.max())
        order = (-weights).argsort()
        cumulative = weights[order].cumsum()
        cumulative = cumulative[: int(cumulative.searchsorted(top_p[row] * cumulative[-1])) + 1]
        picked[row] = tokens[
            order[
                min(
                    int(cumulative.searchsorted(draws[row] * cumulative[-1], side="right")),
                    len(cumulative) - 1,
                )
            ]
        ]
    return picked
