"""What new notes of a file take from the notes of their track around them: how loud they are, and how far
from the grid they are played."""

import numpy as np

PLAYED = 0.5  # share of a track's notes off the grid from which it was played and not written


def loudness_at(onsets: np.ndarray, old: np.ndarray, velocity: int) -> np.ndarray:
    """Velocities of new notes at `onsets` (m,): each is as loud as the note of the file's track, `old`
    (n, 4), that begins nearest; `velocity` where the track has none."""
    return _nearest(onsets, old[:, 0], old[:, 3]) if len(old) else np.full(len(onsets), velocity)


def lateness_at(onsets: np.ndarray, old: np.ndarray, barlines: np.ndarray, step: float) -> np.ndarray:
    """Ticks by which new notes at `onsets` (m,) are late (early: below 0): as much as the note of the file's
    track, `old` (n, 4), that begins nearest is off its place on a grid of `step` ticks from the barline
    before it; 0 where the track is written and not played. Notes of one onset stay together."""
    if not len(old):
        return np.zeros(len(onsets), dtype=np.int64)
    begun = old[:, 0] - barlines[np.maximum(np.searchsorted(barlines, old[:, 0], side="right") - 1, 0)]
    late = np.rint(begun - np.rint(begun / step) * step).astype(np.int64)
    if (np.abs(late) > 1).mean() < PLAYED:  # a coarse file rounds by a tick
        return np.zeros(len(onsets), dtype=np.int64)
    return _nearest(onsets, old[:, 0], late)


def _nearest(onsets: np.ndarray, begun: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each onset the value of the note that begins nearest, the earlier of two."""
    order = np.argsort(begun, kind="stable")
    begun, values = begun[order], values[order]
    after = np.clip(np.searchsorted(begun, onsets), 1, max(len(begun) - 1, 1))
    before, after = after - 1, np.minimum(after, len(begun) - 1)
    nearer = np.abs(onsets - begun[before]) <= np.abs(begun[after] - onsets)
    return np.where(nearer, values[before], values[after])
