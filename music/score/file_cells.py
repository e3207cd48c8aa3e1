"""The cells of any file, in the file's own ticks: which note is in which, their digest, their difference, and
new notes put in place.

Scores on the model's grid are in `music/score/form.py`; here nothing is rounded. A note that is played up to
half a grid step before a barline belongs to the bar that the barline opens, as a listener would say.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from symusic import Note, Score, Track

from music.score.errors import UnreadableScore
from music.score.form import bar_table

EARLY = 24  # of a quarter: half a step of a grid of 12
COLUMNS = ("time", "duration", "pitch", "velocity")


@dataclass(frozen=True)
class FileCells:
    """A file and its bars, int64 (B, 4): start, length (ticks of the file), numerator, denominator."""

    score: Score
    bars: np.ndarray

    @classmethod
    def of(cls, score: Score) -> "FileCells":
        """Bars from tick 0 to the end of the last note. Raises UnreadableScore for a metre that is no whole
        number of the file's ticks."""
        bars = bar_table(score)
        if not len(bars):
            raise UnreadableScore("the score has no notes")
        return cls(score, bars)

    @property
    def shape(self) -> tuple[int, int]:
        """(bars, tracks)."""
        return len(self.bars), len(self.score.tracks)

    def bar_of(self, onsets: np.ndarray) -> np.ndarray:
        """Bar of each onset."""
        return np.clip(
            np.searchsorted(self.bars[:, 0], onsets + self.score.tpq // EARLY, side="right") - 1,
            0,
            len(self.bars) - 1,
        )

    def notes(self, track: int) -> np.ndarray:
        """Notes of a track, int64 (n, 4): onset, duration, pitch, velocity; in the order of the file."""
        return notes_of(self.score.tracks[track])


def notes_of(track: Track) -> np.ndarray:
    """Notes of a track, int64 (n, 4): onset, duration, pitch, velocity; in the order of the file."""
    columns = track.notes.numpy()
    return np.stack([columns[name] for name in COLUMNS], axis=1).astype(np.int64)


def set_notes(track: Track, notes: np.ndarray) -> None:
    """Give a track these notes, int64 (n, 4), sorted by onset and pitch."""
    notes = notes[np.lexsort((notes[:, 1], notes[:, 2], notes[:, 0]))]
    time, duration, pitch, velocity = (np.ascontiguousarray(notes[:, i]) for i in range(4))
    track.notes = Note.from_numpy(
        time.astype(np.int32), duration.astype(np.int32), pitch.astype(np.int8), velocity.astype(np.int8)
    )


def digest(
    cells: FileCells, region: np.ndarray, bar_numbers: np.ndarray | None = None, tracks: int | None = None
) -> str:
    """sha256 of every note outside the region: the edit contract, as one number.

    region: bool (bars, tracks). A note counts by track, bar, onset from its barline, duration, pitch and
    velocity. bar_numbers: the number each bar counts as, where bars were put in before others. tracks: only
    the first so many, where some were added.
    """
    tracks = cells.shape[1] if tracks is None else tracks
    numbers = np.arange(cells.shape[0]) if bar_numbers is None else bar_numbers
    found = hashlib.sha256()
    for k in range(tracks):
        notes = cells.notes(k)
        bar = cells.bar_of(notes[:, 0])
        kept = ~region[bar, k] if len(notes) else np.zeros(0, dtype=bool)
        rows = np.column_stack([numbers[bar], notes[:, 0] - cells.bars[bar, 0], notes[:, 1:]])[kept]
        rows = rows[np.lexsort(rows.T[::-1])]
        track = cells.score.tracks[k]
        name = "" if region[:, k].all() else f"{track.program} {track.is_drum}"
        found.update(f"{k} {name} {len(rows)}:".encode() + rows.tobytes())
    return found.hexdigest()


def difference(
    before: FileCells, after: FileCells, bar_numbers: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """What changed, cell by cell: notes added, removed and moved (same pitch, another onset or length), bars
    and tracks counted from 1.

    bar_numbers: for each bar of `after` its bar in `before`, -1 for a new one.
    """
    numbers = np.arange(after.shape[0]) if bar_numbers is None else bar_numbers
    new_bar = {int(old): b for b, old in enumerate(numbers) if old >= 0}
    changes = []
    for k in range(max(before.shape[1], after.shape[1])):
        old, new = (_by_bar(cells, k) for cells in (before, after))
        came = {int(numbers[b]) if numbers[b] >= 0 else -1 - b: rows for b, rows in new.items()}
        for b in old.keys() | came.keys():
            told = _cell_difference(old.get(b), came.get(b))
            if any(told.values()):
                shown = b + 1 if b < 0 else new_bar.get(b, b)
                changes.append({"track": k + 1, "bar": (-b if b < 0 else shown + 1), **told})
    return sorted(changes, key=lambda change: (change["track"], change["bar"]))


def _by_bar(cells: FileCells, track: int) -> dict[int, np.ndarray]:
    """(onset from the barline, duration, pitch) of the notes of each bar that has some, in quarters x 960, so
    that files of any resolution compare."""
    if track >= cells.shape[1]:
        return {}
    notes = cells.notes(track)
    bar = cells.bar_of(notes[:, 0])
    onsets = notes[:, 0] - cells.bars[bar, 0]
    rows = np.column_stack(
        [onsets * 960 // cells.score.tpq, notes[:, 1] * 960 // cells.score.tpq, notes[:, 2]]
    )
    order = np.argsort(bar, kind="stable")
    found, starts = np.unique(bar[order], return_index=True)
    return dict(zip(found.tolist(), np.split(rows[order], starts[1:]), strict=True)) if len(bar) else {}


def _cell_difference(before: np.ndarray | None, after: np.ndarray | None) -> dict[str, int]:
    old, new = (
        Counter(map(tuple, rows.tolist())) if rows is not None else Counter() for rows in (before, after)
    )
    gone, come = old - new, new - old
    pitches_gone, pitches_come = (_pitches(rows) for rows in (gone, come))
    moved = (pitches_gone & pitches_come).total()
    return {"added": come.total() - moved, "removed": gone.total() - moved, "moved": moved}


def _pitches(rows: "Counter[tuple[int, ...]]") -> "Counter[int]":
    found = Counter[int]()
    for row, count in rows.items():
        found[row[2]] += count
    return found


def _together(notes: np.ndarray) -> tuple[list[int], list[int]]:
    """Starts and ends of the stretches in which notes (n, 4) of one pitch sound; a note of no length takes a
    tick."""
    notes = notes[np.argsort(notes[:, 0], kind="stable")]
    ends = np.maximum.accumulate(notes[:, 0] + np.maximum(notes[:, 1], 1))
    opens = np.append(True, notes[1:, 0] > ends[:-1])
    return notes[opens, 0].tolist(), ends[np.append(opens[1:], True)].tolist()


def clear_of(new: np.ndarray, kept: np.ndarray, each_other: bool = True) -> np.ndarray:
    """New notes (n, 4) cut so that none sounds together with a kept one (m, 4) of its pitch, or with another
    new one (`each_other`); what is left of no length goes. A note of no length takes a tick."""
    found: list[list[int]] = []
    held = {pitch: _together(kept[kept[:, 2] == pitch]) for pitch in np.unique(kept[:, 2]).tolist()}
    free_from = dict[int, int]()  # of a pitch, after the new notes so far
    for asked, duration, pitch, velocity in new[np.argsort(new[:, 0], kind="stable")].tolist():
        starts, stops = held.get(pitch, ([], []))
        onset = max(asked, free_from.get(pitch, asked))
        before = bisect_right(starts, onset) - 1
        if before >= 0 and onset < stops[before]:
            onset = stops[before]
        following = bisect_left(starts, onset)
        end = min(asked + duration, starts[following]) if following < len(starts) else asked + duration
        if end > onset:
            found.append([onset, end - onset, pitch, velocity])
            if each_other:
                free_from[pitch] = end
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def with_cells(
    cells: FileCells,
    region: np.ndarray,
    new: dict[int, np.ndarray],
    exact: Sequence[int] = (),
    held: "dict[int, np.ndarray] | None" = None,
) -> Score:
    """A copy of the file in which the cells of the region hold `new[track]` (n, 4) and nothing else of the
    file has changed.

    New notes are cut where they would sound together with a kept note of their pitch, and, but in the tracks
    `exact`, with one another. held: numbers of notes inside the region that stay, by track.
    """
    score = cells.score.copy()
    for k, notes in new.items():
        old = cells.notes(k)
        stays = ~region[cells.bar_of(old[:, 0]), k]
        stays[(held or {}).get(k, [])] = True
        kept = old[stays]
        put = clear_of(notes, kept, each_other=k not in exact)
        # one that had to wait for a kept note's end may have left its region: it goes
        put = put[region[cells.bar_of(put[:, 0]), k]]
        set_notes(score.tracks[k], np.concatenate([kept, put]))
    return score
