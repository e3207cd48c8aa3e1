"""Locks: hard constraints on what is filled. The network's choice is free only within them."""

from dataclasses import dataclass, field, replace

import numpy as np

from models.tokens.tokenizer import PITCHES


class LockError(ValueError):
    """The locks leave nothing that could be written; the message says where and what to loosen."""


@dataclass(frozen=True)
class Locks:
    """What must hold in every filled cell.

    rhythm: onsets and durations of the cell's old notes stay, pitches are new. pitches: the old pitches stay
    in their order, the
    rhythm is new (a note then ends by its barline). scale: pitch classes 0-11 that may sound. ranges:
    (lowest, highest) MIDI pitch by
    track. grid_ticks: onsets and durations are multiples of it. voice_leading: a pitch that makes parallel
    fifths or octaves with another
    track is written only where nothing else is legal, or where the pitches are locked; None: as the task has
    it. lines: tracks in which no two notes sound at once.
    """

    rhythm: bool = False
    pitches: bool = False
    scale: frozenset[int] = frozenset()
    ranges: dict[int, tuple[int, int]] = field(default_factory=dict)
    grid_ticks: int = 1
    voice_leading: bool | None = None
    lines: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.rhythm and self.pitches:
            raise LockError("rhythm and pitches are both locked: nothing is left to fill; unlock one")
        if any(not 0 <= pc <= 11 for pc in self.scale):
            raise LockError("a scale is a set of pitch classes 0 to 11 (C is 0)")
        if self.grid_ticks < 1:
            raise LockError("the rhythmic grid must be at least one tick")
        for track, (low, high) in self.ranges.items():
            if not 0 <= low <= high <= 127:
                raise LockError(
                    f"range {low}-{high} of track {track} is not within MIDI pitches 0-127, lowest first"
                )

    def allowed_pitches(self, track: int, is_drum: bool) -> np.ndarray:
        """Bool (128,). Raises LockError where a range holds no pitch of the scale."""
        pitch = np.arange(PITCHES)
        allowed = (
            np.isin(pitch % 12, list(self.scale))
            if self.scale and not is_drum
            else np.ones(PITCHES, dtype=bool)
        )
        if track in self.ranges:
            low, high = self.ranges[track]
            allowed &= (pitch >= low) & (pitch <= high)
        if not allowed.any():
            raise LockError(f"no pitch of the scale lies in the range of track {track}: widen one of them")
        return allowed


def as_served(locks: Locks, style: str) -> Locks:
    """The same, kept from parallels in chorales where nothing is said of it."""
    return replace(locks, voice_leading=style == "chorale") if locks.voice_leading is None else locks


class RhythmLock:
    """The old (onset, duration) pairs of one cell, ticks from the barline, in order; pitches of a chord
    rise."""

    def __init__(self, notes: np.ndarray) -> None:
        self._notes = notes[:, :2].tolist()
        self.next = 0

    def legal(
        self, expected: int, duration: int, last_pitch: int, free: np.ndarray
    ) -> tuple[str, np.ndarray]:
        """(kind, values) that may come next: a Position, a Duration, pitches, or "" when the cell is done.

        `expected`: onset as it stands, `duration`: as it stands, `last_pitch`: of the note before at this
        onset or -1, `free(128,)`: tick from the barline until which each pitch may sound, -1 where it may not
        start.
        """
        if self.next == len(self._notes):
            return "", np.zeros(0, dtype=np.int64)
        onset, length = self._notes[self.next]
        if onset != expected:
            return "Position", np.array([onset])
        if length != duration:
            return "Duration", np.array([length])
        chord = [other[1] for other in self._notes[self.next :] if other[0] == onset]
        able = np.flatnonzero((free >= onset + max(chord)) & (np.arange(PITCHES) > last_pitch))
        return "Pitch", able[: len(able) - (len(chord) - 1)]


class PitchLock:
    """The old pitches of one cell in order; what began together begins together, and what did not begins
    later.

    Every note starts late enough for those before and early enough for those after it.
    """

    def __init__(self, notes: np.ndarray, bar_length: int, grid: int, line: bool = False) -> None:
        """`line`: no note sounds on when the next begins."""
        self._line = line
        self._pitches = notes[:, 2].tolist()
        together = (np.diff(notes[:, 0]) == 0) & (
            np.diff(notes[:, 2]) > 0
        )  # a pitch struck twice at once is struck twice running
        self._joined = [False, *together.tolist()]  # begins with the note before it
        self._length, self._grid = bar_length, grid
        self.next = 0
        self._latest = [0] * len(self._pitches)  # tick by which each note must start
        latest = (bar_length - 1) // grid * grid
        for j in range(len(self._pitches) - 1, -1, -1):
            self._latest[j] = latest
            if not self._joined[j]:
                latest -= grid
        if self._pitches and self._latest[0] < 0:
            raise LockError(
                f"{len(self._pitches)} locked pitches do not fit into a bar of {bar_length} "
                f"ticks on a grid of {grid}: use a finer grid or unlock the pitches"
            )

    def legal(
        self,
        expected: int,
        duration: int,
        onset: int,
        positioned: bool,
        timed: bool,
        until: np.ndarray,
        limit: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """What may come next as values by kind; {} when the cell is done.

        `onset`: of the note before in the cell; `until(128,)`: tick from the barline at which each pitch is
        free again; `limit(128,)`: tick by which it must have ended.
        """
        if self.next == len(self._pitches):
            return {}
        end, grid = self._end(self.next, limit), self._grid
        if self._joined[self.next]:
            earliest = latest = onset
        else:
            chord = self._chord(self.next)
            earliest = max(
                [
                    onset + grid if self.next else 0,
                    *(-(-int(until[self._pitches[j]]) // grid) * grid for j in chord),
                ]
            )
            latest = min([self._latest[self.next], *(self._end(j, limit) - grid for j in chord)])
        may: dict[str, np.ndarray] = {}
        here = earliest <= expected <= latest
        if not positioned and not timed:
            onsets = np.arange(earliest, latest + 1, grid)
            may["Position"] = onsets[onsets != expected]
        if here and not timed:
            lengths = np.arange(grid, end - expected + 1, grid)
            may["Duration"] = lengths[lengths != duration]
        if here and 0 < duration <= end - expected:
            may["Pitch"] = np.array([self._pitches[self.next]])
        return may

    def _chord(self, first: int) -> range:
        """The notes that begin with one that is not joined."""
        last = first + 1
        while last < len(self._pitches) and self._joined[last]:
            last += 1
        return range(first, last)

    def _end(self, note: int, limit: np.ndarray) -> int:
        """Tick by which a note must have ended: the barline, the next of its pitch, or what is kept."""
        pitch = self._pitches[note]
        later = range(note + 1, len(self._pitches))
        again = next((j for j in later if self._line or self._pitches[j] == pitch), None)
        return min(self._length if again is None else self._latest[again], int(limit[pitch]))


class CopyLock:
    """A cell that comes back: its tokens, one after the other."""

    def __init__(self, bar: int, track: int) -> None:
        self.source = (bar, track)
        self.tokens: list[int] = []
        self.next = 0


class KeepLock:
    """Notes of a cell that stay while others are written round them: (onset from the barline, duration,
    pitch), in order. Before the next of them others may be written; it is written where it stands."""

    def __init__(self, notes: np.ndarray) -> None:
        order = np.lexsort((notes[:, 2], notes[:, 0]))
        self._notes = [tuple(note) for note in notes[order].tolist()]
        self._done = 0

    @property
    def left(self) -> list[tuple[int, int, int]]:
        """Those that are not written yet."""
        return self._notes[self._done :]

    @property
    def note(self) -> tuple[int, int, int] | None:
        """The next one, None when all are written."""
        return self._notes[self._done] if self._done < len(self._notes) else None

    def written(self, onset: int, pitch: int) -> None:
        """A note is written: the next one, perhaps."""
        if self.note is not None and (self.note[0], self.note[2]) == (onset, pitch):
            self._done += 1
