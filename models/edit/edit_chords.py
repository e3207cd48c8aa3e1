"""A plan of chords for part-writing: what most of several takes agree on, beat by beat.

One take of a network that writes voice after voice settles its chords by what it happened to write first. The
chord that most takes have at a beat is a better guess of what belongs there (the mode of the marginals
instead of one draw of the whole), and told to the network it holds the next take together. `python -m
benchmarks.harmonise` has what it wins.
"""

from collections import Counter
from collections.abc import Callable, Generator

import numpy as np

from models.edit.edit_style import takes_of
from models.fill.passage import Draft
from models.fill.request import Filled, FillRequest
from music.analysis.chords import chords_of
from music.score.chords import by_tick

TAKES, HEAT = 12, 0.8  # that vote, and the temperature they are written with
Request = Callable[[int], FillRequest]  # a number, to a request for a take that votes


def planned(draft: Draft, request: Request) -> Generator[list[FillRequest], list[Filled], np.ndarray | None]:
    """Chords tick by tick of the passage, int (ticks, 3), as `FillRequest` has them; None where so many cells
    are to be filled that there is no room for a vote."""
    count = takes_of(int(draft.passage.region.sum()), TAKES)
    if count < 3:
        return None
    takes = yield [request(number) for number in range(count)]
    lines = [chords_of(take.score) for take in takes]
    agreed = lines[0].copy()
    for beat in range(min(map(len, lines))):
        root = Counter(int(line[beat, 2]) for line in lines).most_common(1)[0][0]
        rest = Counter(tuple(line[beat, 3:].tolist()) for line in lines if line[beat, 2] == root)
        agreed[beat, 2:] = (root, *rest.most_common(1)[0][0])
    return by_tick(agreed)
