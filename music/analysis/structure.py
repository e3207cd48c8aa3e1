"""Form: how often a bar comes back after so many bars, and where two melodies share a passage."""

from collections.abc import Sequence

import numpy as np
from symusic import Score

from music.analysis.similarity import melody
from music.score.form import bar_table, note_array

LAGS = (4, 8, 16)


def bar_contents(score: Score) -> list[bytes]:
    """What sounds in each bar, as one comparable value: (track, onset from the barline, duration, pitch) of
    the notes that start in it."""
    bars = bar_table(score)
    rows: list[list[np.ndarray]] = [[] for _ in range(len(bars))]
    for k, track in enumerate(score.tracks):
        notes = note_array(track)
        bar = np.searchsorted(bars[:, 0], notes[:, 0], side="right") - 1
        for b in np.unique(bar):
            mine = notes[bar == b] - np.array([bars[b, 0], 0, 0])
            rows[b].append(np.column_stack([np.full(len(mine), k), mine]))
    return [np.concatenate(row).tobytes() if row else b"" for row in rows]


def has_upbeat(score: Score) -> bool:
    """Whether the first half of the first bar is silent, and the second is not."""
    onsets = [int(note_array(track)[:, 0].min()) for track in score.tracks if len(track.notes)]
    length = int(bar_table(score)[0, 1])
    return bool(onsets) and length / 2 <= min(onsets) < length


def repetition(score: Score, lag: int) -> float | None:
    """Share of sounding bars from bar `lag` on that are the same as the bar `lag` bars before; None where the
    piece is not longer than it."""
    contents = bar_contents(score)
    pairs = [(a, b) for a, b in zip(contents, contents[lag:], strict=False) if b]
    return float(np.mean([a == b for a, b in pairs])) if pairs else None


def same_bars(score: Score, length: int) -> float:
    """Share of the second `length` bars (after an upbeat) that are the same as the first."""
    contents = bar_contents(score)[int(has_upbeat(score)) :]
    return float(
        np.mean([a == b for a, b in zip(contents[:length], contents[length : 2 * length], strict=False)])
    )


def shared_passage(score: Score, other: Score, length: int) -> tuple[int, int] | None:
    """(bar of `score`, bar of `other`), from 1, where the first run of `length` intervals that both melodies
    share starts; None where none does."""
    mine, theirs = _lines_with_bars(score), _lines_with_bars(other)
    for line, bars in mine:
        for other_line, other_bars in theirs:
            if len(line) < length or len(other_line) < length:
                continue
            known = {
                window.tobytes(): i
                for i, window in enumerate(np.lib.stride_tricks.sliding_window_view(other_line, length))
            }
            for i, window in enumerate(np.lib.stride_tricks.sliding_window_view(line, length)):
                if window.tobytes() in known:
                    return int(bars[i]) + 1, int(other_bars[known[window.tobytes()]]) + 1
    return None


def _lines_with_bars(score: Score) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Each melody line (music/analysis/similarity.py) with the bar in which each interval starts."""
    starts = bar_table(score)[:, 0]
    pitched = [track for track in score.tracks if not track.is_drum and len(track.notes)]
    bars = []
    for track in pitched:
        notes = note_array(track)
        top = notes[np.append(notes[1:, 0] != notes[:-1, 0], True)]
        bars.append(np.searchsorted(starts, top[:-1, 0], side="right") - 1)
    return list(zip(melody(score), bars, strict=True))
