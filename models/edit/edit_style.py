"""Filling again and again: annealed Gibbs sampling over cells for `vary` and `restyle`, and for `restyle` a
search for the asked style.

The model alone hardly tells styles apart that share their scales and rhythms; the judges of a bundle do
(models/judge/style_classifier.py). So of several takes of the same few bars, all of them the model's, the one
stays whose passage is most surely named as asked.
"""

from collections.abc import Callable, Generator

import numpy as np

from models.fill.passage import Draft
from models.fill.request import Filled, FillRequest
from models.judge.style_classifier import Judges
from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer

SHARES = (1.0, 0.5, 0.25)  # of the chosen cells: how many are filled again in each round
TAKES, SPAN, SWEEPS = (
    8,
    4,
    3,
)  # of the search: takes of each block, cells of a block, times through the chosen cells
MOST_CELLS, MOST_BLOCKS = (
    256,
    32,
)  # cells written at once, all takes together; blocks searched: some ten seconds at the most
BEYOND, OCTAVE = 2, 12  # semitones by which a track may leave its old compass; in another key
SURE = -0.05  # nats: a passage whose label is this sure is left alone
Request = Callable[[np.ndarray, int], FillRequest]  # a mask and a number, to a request for those cells
Steps = Generator[list[FillRequest], list[Filled], Draft]


def chosen_cells(draft: Draft, strength: float, random: np.random.Generator) -> np.ndarray:
    """(n, 2) bar and track of the cells that may be filled: a share `strength` of the region's, at least one
    where strength is above 0."""
    cells = np.argwhere(draft.passage.region)
    return random.permutation(cells)[: int(np.ceil(strength * len(cells)))]


def takes_of(cells: int, most: int) -> int:
    """How many takes of so many cells are written at once: `most`, fewer of a large region."""
    return max(1, min(most, MOST_CELLS // max(cells, 1)))


def _mask(draft: Draft, cells: np.ndarray) -> np.ndarray:
    mask = np.zeros_like(draft.passage.region)
    mask[tuple(cells.T)] = True
    return mask


def again(
    tokenizer: CellTokenizer, draft: Draft, chosen: np.ndarray, request: Request, random: np.random.Generator
) -> Steps:
    """Fill the chosen cells, then ever fewer of them again, each time in the light of the others (annealed
    blocked Gibbs sampling)."""
    for n, share in enumerate(SHARES if len(chosen) > 1 else SHARES[:1]):
        picked = random.permutation(chosen)[: int(np.ceil(share * len(chosen)))]
        if not len(picked):
            return draft
        mask = _mask(draft, picked)
        (filled,) = yield [request(mask, n)]
        draft.take(tokenizer, filled, mask)
    return draft


def towards(
    tokenizer: CellTokenizer,
    draft: Draft,
    chosen: np.ndarray,
    request: Request,
    named: Callable[[Draft], float],
) -> Steps:
    """Fill the chosen cells, the best of up to TAKES takes; then a few neighbours at a time again, a take
    staying where the passage is the more surely named for it."""
    if not len(chosen):
        return draft
    ordered = chosen[np.lexsort((chosen[:, 1], chosen[:, 0]))]
    blocks = [ordered[i : i + SPAN] for i in range(0, len(ordered), SPAN)]
    best, number = None, 0
    for block in [ordered, *(block for _ in range(SWEEPS) for block in blocks)][: 1 + MOST_BLOCKS]:
        mask = _mask(draft, block)
        takes = yield [request(mask, number + k) for k in range(takes_of(len(block), TAKES))]
        number += TAKES
        tried = [draft.copy() for _ in takes]
        for copy, take in zip(tried, takes, strict=True):
            copy.take(tokenizer, take, mask)
        worth = [named(copy) for copy in tried]
        if best is None or max(worth) > best:
            best, draft = max(worth), tried[int(np.argmax(worth))]
        if best > SURE:
            break
    return draft


def naming(tokenizer: CellTokenizer, labels: Labels, judges: Judges) -> Callable[[Draft], float] | None:
    """How surely the bars of a draft's region are named as asked, nats (0 = certain); None where no judge
    knows a label that is asked."""
    asked = [
        (judge, judge.labels.index(label))
        for kind, judge in judges.items()
        if (label := getattr(labels, kind)) in judge.labels
    ]
    if not asked:
        return None

    def named(draft: Draft) -> float:
        rows = np.flatnonzero(draft.passage.region.any(axis=1))
        score = draft.score(tokenizer, (int(rows[0]), int(rows[-1]) + 1))
        if not score.note_num():
            return -np.inf
        return sum(float(judge.log_probabilities([score])[0, index]) for judge, index in asked)

    return named
