"""What is written on a page, as a score: parts with their notes, measures with their metres, ties merged,
repeats played.

Both readers of notation (music/reading/musicxml.py, music/reading/kern.py) fill a `Page`; here its measures
become the bars of a score. Times are exact fractions of quarters.
"""

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from symusic import KeySignature, Score, Tempo

from music.score.errors import UnreadableScore
from music.score.form import FASTEST_QPM, SLOWEST_QPM, VELOCITY, build

TICKS_PER_QUARTER = 960
Bar = tuple[Fraction, Fraction, tuple[int, int]]  # start and length in quarters, metre in force
MOST_QUARTERS = 1_000_000  # of a page; far more than anybody reads
Note = tuple[Fraction, Fraction, int, int]  # onset and length in quarters, MIDI pitch, velocity


@dataclass
class Part:
    name: str = ""
    program: int = 0
    is_drum: bool = False
    notes: list[Note] = field(default_factory=list)
    _held: dict[tuple[int, Fraction], list[int]] = field(default_factory=dict)
    """Numbers of the notes that are tied onward, by their pitch and by where they end."""

    def add(
        self,
        onset: Fraction,
        length: Fraction,
        pitch: int,
        starts: bool,
        stops: bool,
        velocity: int = VELOCITY,
    ) -> None:
        """A note; one that stops a tie lengthens the note of its pitch that started it and ends here. Another
        voice may have begun or tied the same pitch since."""
        open_ties = self._held.get((pitch, onset)) if stops else None
        if open_ties:
            note = open_ties.pop()
            first, before, _, loud = self.notes[note]
            self.notes[note] = (first, before + length, pitch, loud)
        else:
            note = len(self.notes)
            self.notes.append((onset, length, pitch, velocity))
        if starts:
            self._held.setdefault((pitch, onset + length), []).append(note)


@dataclass
class Page:
    """tempos: (quarters from the start, quarters a minute). key: (sharps, 1 if minor) that sound. chords:
    (quarters from the start, symbol). order: of the bars as they are played; [] as they stand."""

    parts: list[Part]
    bars: list[Bar]
    tempos: list[tuple[Fraction, float]] = field(default_factory=list)
    key: tuple[int, int] | None = None
    chords: list[tuple[Fraction, str]] = field(default_factory=list)
    order: list[int] = field(default_factory=list)

    def score(self) -> tuple[Score, list[tuple[int, str]]]:
        """One track for each part that has notes, and the chord symbols by tick. Raises UnreadableScore where
        there is no note."""
        page = self._played() if self.order and self.order != list(range(len(self.bars))) else self
        parts = [part for part in page.parts if part.notes]
        if not parts:
            raise UnreadableScore("the file has no notes")
        lasts = max(onset + length for part in parts for onset, length, _, _ in part.notes)
        if lasts > MOST_QUARTERS:
            raise UnreadableScore(
                f"it lasts {float(lasts):.3g} quarters: a duration is damaged, or `divisions` is; at most "
                f"{MOST_QUARTERS} are read"
            )
        bars = _merge_split_bars(page.bars)
        upbeat = _upbeat(bars)
        origin = bars[0][0] - upbeat
        tracks = [
            (0 if part.is_drum else part.program, part.is_drum, _in_ticks(part.notes, origin))
            for part in parts
        ]
        score = build(tracks, _changes(bars, origin), TICKS_PER_QUARTER)
        for part, track in zip(parts, score.tracks, strict=True):
            track.name = part.name
        told = [(at, qpm) for at, qpm in sorted(page.tempos) if SLOWEST_QPM <= qpm <= FASTEST_QPM]
        tempos = [(_tick(at, origin), qpm) for at, qpm in told]
        if tempos:
            score.tempos.clear()
            first = (0, tempos[0][1])
            for tick, qpm in [first, *(tempo for tempo in tempos[1:] if tempo[0] > 0)]:
                score.tempos.append(Tempo(tick, qpm=qpm))
        if page.key is not None:
            score.key_signatures.append(KeySignature(0, *page.key))
        return score, [(_tick(at, origin), symbol) for at, symbol in page.chords]

    def _played(self) -> "Page":
        """The page with its measures in the order in which they are played. What sounds past its measure is
        cut where another one follows than on the page."""
        bars: list[Bar] = []
        parts = [replace(part, notes=[]) for part in self.parts]
        played = Page(parts, bars, [], self.key, [])
        notes = [self._by_bar([note[0] for note in part.notes]) for part in self.parts]
        tempos, chords = (self._by_bar([at for at, _ in marks]) for marks in (self.tempos, self.chords))
        at = Fraction(0)
        for n, following in zip(self.order, [*self.order[1:], -1], strict=True):
            start, length, metre = self.bars[n]
            bars.append((at, length, metre))
            for part, new, there in zip(self.parts, parts, notes, strict=True):
                for onset, lasts, pitch, loud in (part.notes[i] for i in there[n]):
                    kept = lasts if following == n + 1 else min(lasts, start + length - onset)
                    if kept > 0:
                        new.notes.append((onset - start + at, kept, pitch, loud))
            played.tempos += [(self.tempos[i][0] - start + at, self.tempos[i][1]) for i in tempos[n]]
            played.chords += [(self.chords[i][0] - start + at, self.chords[i][1]) for i in chords[n]]
            at += length
        return played

    def _by_bar(self, onsets: list[Fraction]) -> list[list[int]]:
        """Of each bar the numbers of those that begin in it."""
        starts = [bar[0] for bar in self.bars]
        found: list[list[int]] = [[] for _ in self.bars]
        for i, onset in enumerate(onsets):
            found[max(bisect_right(starts, onset) - 1, 0)].append(i)
        return found


def _tick(at: Fraction, origin: Fraction) -> int:
    return max(round((at - origin) * TICKS_PER_QUARTER), 0)


def _in_ticks(notes: list[Note], origin: Fraction) -> np.ndarray:
    rows = [
        (round((onset - origin) * TICKS_PER_QUARTER), max(round(length * TICKS_PER_QUARTER), 1), pitch, loud)
        for onset, length, pitch, loud in notes
    ]
    return np.array(sorted(rows), dtype=np.int64)


def _full(bar: Bar) -> Fraction:
    return Fraction(4 * bar[2][0], bar[2][1])


def _merge_split_bars(bars: list[Bar]) -> list[Bar]:
    """Join two short bars that make one whole: a bar cut in two by a repeat sign (3 + 1 beats)."""
    merged = [bars[0]]
    for bar in bars[1:]:
        last = merged[-1]
        if len(merged) > 1 and last[1] < _full(last) and last[1] + bar[1] == _full(last):
            merged[-1] = (last[0], _full(last), last[2])
        else:
            merged.append(bar)
    return merged


def _upbeat(bars: list[Bar]) -> Fraction:
    """Quarters missing from a first bar that is shorter than its metre."""
    return max(_full(bars[0]) - bars[0][1], Fraction(0)) if len(bars) > 1 else Fraction(0)


def _changes(bars: list[Bar], origin: Fraction) -> list[tuple[int, int, int]]:
    """(tick, numerator, denominator) metre changes; a bar of odd length inside the piece gets a metre of its
    own."""
    changes: list[tuple[int, int, int]] = []
    for i, bar in enumerate(bars):
        inside = 0 < i < len(bars) - 1
        metre = _metre_of(bar[1]) if inside and bar[1] != _full(bar) else bar[2]
        if not changes or changes[-1][1:] != metre:
            changes.append((round((bar[0] - origin) * TICKS_PER_QUARTER) if i else 0, *metre))
    return changes


def _metre_of(quarters: Fraction) -> tuple[int, int]:
    """A metre for a bar of any length: 3 quarters -> 3/4, 7/2 quarters -> 7/8."""
    for denominator in (4, 8, 16, 32):
        numerator = quarters * denominator / 4
        if numerator.denominator == 1:
            return int(numerator), denominator
    raise UnreadableScore(f"a measure lasts {float(quarters):.3f} quarters, which is no metre")
