"""What the tracks of a section sound, as it is read token by token."""

from bisect import bisect_right
from dataclasses import dataclass

from models.tokens.place import NONE


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the next token of a cell is expected. Ticks from the barline (`at`: from the first bar shown);
    `duration` of the note before in the cell (0: none); `closing`: the last bar of all.
    notes, low, high and `so_far` (a value of each of CELL_CONTROLS, () before the first note) are of what was
    written of this track. worn: tokens with which the bar would go on as one of an earlier section although
    form tells that it is new."""

    track: int
    tracks: int
    x: int
    length: int
    beat: int
    duration: int
    closing: bool
    bars_left: int
    notes: int
    low: int
    high: int
    so_far: tuple[float, ...]
    at: int
    worn: tuple[int, ...]


class TrackScan:
    """What a track sounds tick by tick, its last pitches, and sums of what was written of it."""

    def __init__(self) -> None:
        self.pitch: list[int] = []
        self.classes: list[int] = []
        self.held_pitch: list[int] = []
        self.held_classes: list[int] = []
        self.last = self.before_last = NONE
        self.end = self.end_of_last = NONE  # latest end of any note, end of the last
        self.sums = [0, 0, 0, 0]
        self.low, self.high = 128, NONE

    def so_far(self, elapsed: int, tpq: int) -> tuple[float, ...]:
        """A value of each of CELL_CONTROLS of what was written in so many ticks."""
        n, long, covered, off = self.sums
        some = max(n, 1)
        return (
            n * tpq / max(elapsed, 1),
            long / max(covered, 1),
            float(self.high - self.low),
            long / some / tpq,
            off / some,
        )


def sound(pitches: list[int], classes: list[int], start: int, end: int, pitch: int) -> None:
    if len(pitches) < end:
        pitches += [NONE] * (end - len(pitches))
        classes += [0] * (end - len(classes))
    pitches[start:end] = [pitch] * (end - start)
    bit = 1 << pitch % 12
    for tick in range(start, end):
        classes[tick] |= bit


class AheadScan:
    """What is kept ahead, by track, bar and tick from the first barline of Ahead."""

    def __init__(self, tracks: int, before: int) -> None:
        self.tracks = [TrackScan() for _ in range(tracks)]
        self._before = before
        self._starts: list[int] = []
        self._onsets: dict[tuple[int, int], list[int]] = {}
        self._opens: dict[tuple[int, int], int] = {}
        self._coming: list[list[tuple[int, int]]] = []
        self._lines: dict[int, tuple[list[int], list[int]]] = {}  # track -> onsets, pitches

    def bar(self, start: int) -> None:
        """A bar begins."""
        self._starts.append(start)

    def hear(self, track: int, bar: int, onset: int, start: int, end: int, pitch: int) -> None:
        """A note; `bar` counts from the first bar after Fill."""
        sound(self.tracks[track].pitch, self.tracks[track].classes, start, end, pitch)
        self._onsets.setdefault((track, bar), []).append(onset)
        self._opens.setdefault((track, bar), pitch)
        onsets, pitches = self._lines.setdefault(track, ([], []))
        onsets.append(start)
        pitches.append(pitch)

    def close(self) -> None:
        """All of it is read."""
        bars = self._before + len(self._starts)
        for k in range(len(self.tracks)):
            coming, distance, line = NONE, 0, [(NONE, 0)] * (bars + 1)
            for b in range(bars - 1, -1, -1):
                opens = self._opens.get((k, b + 1), NONE)
                coming, distance = (opens, 0) if opens >= 0 else (coming, distance + 1)
                line[b] = (coming, distance)
            self._coming.append(line)

    def start(self, bar: int) -> int:
        """Where a bar begins here; NONE where it is not shown."""
        return self._starts[bar - self._before] if 0 <= bar - self._before < len(self._starts) else NONE

    def onsets(self, track: int, bar: int) -> list[int]:
        """Onsets from the barline of what is kept of a track in a bar."""
        return self._onsets.get((track, bar), [])

    def coming(self, track: int, bar: int) -> tuple[int, int]:
        """Pitch of the next note of a track that is kept after a bar, NONE: none, and bars to it."""
        line = self._coming[track] if track < len(self._coming) else []
        return line[bar] if bar < len(line) else (NONE, 0)

    def melody(self, track: int, at: int) -> tuple[int, int, int]:
        """Of the uppermost other track that is kept: pitch of the next note after a tick, ticks to it, pitch
        of the one after; NONE: none."""
        others = [k for k in self._lines if k != track]
        if not others:
            return NONE, 0, NONE
        onsets, pitches = self._lines[min(others)]
        i = bisect_right(onsets, at)
        if i == len(onsets):
            return NONE, 0, NONE
        return pitches[i], onsets[i] - at, pitches[i + 1] if i + 1 < len(onsets) else NONE
