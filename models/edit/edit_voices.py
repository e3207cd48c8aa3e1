"""Part-writing second thoughts: bars in which the voices break the rules are filled again, and the take with
the fewest faults stays."""

from collections.abc import Callable, Generator

import numpy as np

from models.fill.passage import Draft
from models.fill.request import Filled, FillRequest
from models.tokens.tokenizer import CellTokenizer
from music.analysis.voices import COMPASS, voice_leading
from music.score.instruments import DRUMS

SPAN, SWEEPS, TAKES = 2, 2, 6  # bars filled again at once, times through the region, takes of each
WEIGHTS = {"parallel_fifths": 1.0, "parallel_octaves": 1.0, "crossings": 0.25, "out_of_compass": 0.25}
Request = Callable[[np.ndarray, int], FillRequest]  # a mask and a number, to a request for those cells


def applies(draft: Draft) -> bool:
    """Whether a passage is part-writing: three to five pitched tracks, mostly of one note at a time."""
    pitched = [t for t, program in enumerate(draft.passage.plan.programs) if program != DRUMS]
    held = [cell for row in draft.cells for t, cell in enumerate(row) if t in pitched and len(cell)]
    single = [len(np.unique(cell[:, 0])) / len(cell) for cell in held]
    return 3 <= len(pitched) <= 5 and bool(single) and float(np.mean(single)) > 0.8


def faults(tokenizer: CellTokenizer, draft: Draft, bars: tuple[int, int]) -> float:
    """Weighted faults of bars [first, last) and of the steps into and out of them."""
    first, last = max(bars[0] - 1, 0), min(bars[1] + 1, len(draft.cells))
    score = draft.score(tokenizer, (first, last))
    order = np.argsort(
        [
            -np.mean([note.pitch for note in track.notes]) if len(track.notes) else 0.0
            for track in score.tracks
        ]
    )
    tracks = [score.tracks[int(t)] for t in order]
    score.tracks.clear()
    for track in tracks:
        score.tracks.append(track)
    told = vars(voice_leading(score, tokenizer.ticks_per_quarter // 2))
    return sum(
        weight * told[name]
        for name, weight in WEIGHTS.items()
        if name != "out_of_compass" or len(tracks) == len(COMPASS)
    )


def revised(
    tokenizer: CellTokenizer, draft: Draft, request: Request
) -> Generator[list[FillRequest], list[Filled], Draft]:
    """Fill bars with faults again, some takes each, until a sweep finds none or SWEEPS are over."""
    rows = np.flatnonzero(draft.passage.region.any(axis=1))
    number = 1
    for _ in range(SWEEPS):
        clean = True
        for first in range(int(rows[0]), int(rows[-1]) + 1, SPAN):
            bars = (first, min(first + SPAN, int(rows[-1]) + 1))
            now = faults(tokenizer, draft, bars)
            if not now:
                continue
            clean = False
            mask = np.zeros_like(draft.passage.region)
            mask[bars[0] : bars[1]] = draft.passage.region[bars[0] : bars[1]]
            takes = yield [request(mask, number + k) for k in range(TAKES)]
            number += TAKES
            for take in takes:
                other = draft.copy()
                other.take(tokenizer, take, mask)
                found = faults(tokenizer, other, bars)
                if found < now:
                    now, draft = found, other
        if clean:
            break
    return draft
