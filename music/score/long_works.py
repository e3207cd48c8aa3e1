"""Works that are too long to be learned whole: cut at barlines into parts of about the same length, and notes
that are longer than a token can say."""

import numpy as np
from symusic import Score

from music.score.form import bar_table, build, note_array


def parts_of(score: Score, most_bars: int, most_notes: int) -> list[Score]:
    """A score in normal form in as few parts as keep to both limits, each of whole bars; what sounds over a
    cut ends there. One part where nothing is too long; a single bar with more notes stays as it is."""
    bars = bar_table(score)
    tracks = [note_array(track, loudness=True) for track in score.tracks]
    onsets = np.concatenate([notes[:, 0] for notes in tracks])
    begun = np.bincount(np.searchsorted(bars[:, 0], onsets, side="right") - 1, minlength=len(bars))
    total = np.concatenate([[0], np.cumsum(begun)])
    count = max(-(-len(bars) // most_bars), -(-int(total[-1]) // most_notes), 1)
    while True:
        ends = [round(len(bars) * (k + 1) / count) for k in range(count)]
        starts = [0, *ends[:-1]]
        spans = [(a, b) for a, b in zip(starts, ends, strict=True) if b > a]
        if all(total[b] - total[a] <= most_notes or b - a == 1 for a, b in spans):
            break
        count += 1
    if len(spans) == 1:
        return [score]
    return [_bars(score, tracks, bars[a:b]) for a, b in spans if total[b] > total[a]]


def _bars(score: Score, tracks: list[np.ndarray], bars: np.ndarray) -> Score:
    start, end = int(bars[0, 0]), int(bars[-1, :2].sum())
    cut = []
    for track, notes in zip(score.tracks, tracks, strict=True):
        mine = notes[(notes[:, 0] >= start) & (notes[:, 0] < end)].copy()
        mine[:, 1] = np.minimum(mine[:, 1], end - mine[:, 0])
        mine[:, 0] -= start
        if len(mine):
            cut.append((track.program, track.is_drum, mine))
    changes = [
        (int(at) - start, int(n), int(d))
        for i, (at, _, n, d) in enumerate(bars)
        if not i or (n, d) != tuple(bars[i - 1, 2:])
    ]
    return build(cut, changes, score.tpq)


def with_notes_up_to(score: Score, quarters: int) -> tuple[Score, int]:
    """The score with every longer note (a pedal, a drone) ended after so many quarters; and how many were."""
    limit, shortened = quarters * score.tpq, 0
    found = score.copy()
    for track in found.tracks:
        for note in track.notes:
            if note.duration > limit:
                note.duration = limit
                shortened += 1
    return found, shortened
