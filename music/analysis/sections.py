"""Form: which sections a piece has and which of them come back.

Sections are of one length (the last may be shorter); of the lengths that are tried, the one under which most
bars stand in a section that came before is taken, where eight bars count most, as a listener would count. A
first bar whose first half is silent is an upbeat: it belongs to the first section, which is a bar longer.
"""

from dataclasses import dataclass

import numpy as np
from symusic import Score

from music.analysis.structure import bar_contents, has_upbeat

LENGTHS = {
    8: 1.0,
    16: 0.8,
    12: 0.7,
    4: 0.6,
    6: 0.6,
    10: 0.6,
}  # bars of a section, and what a bar of one counts
SAME = 0.6  # share of equal bars from which on two sections have one letter
ROOM = 26  # letters


@dataclass(frozen=True)
class Section:
    """Bars [first, first + length); letter 0: A; `again`: the first bar of the section it comes back from,
    -1: new."""

    first: int
    length: int
    letter: int
    again: int


def sections_of(score: Score) -> list[Section]:
    """The sections of a score, in order."""
    contents, upbeat = bar_contents(score), int(has_upbeat(score))
    best: list[Section] = []
    most = -1.0
    for length, counts in LENGTHS.items():
        if len(contents) < length + upbeat:
            continue
        found = _cut(contents, length, upbeat)
        back = counts * sum(section.length for section in found if section.again >= 0)
        even = 0.4 * ((len(contents) - upbeat) % length == 0)
        if back + even > most:
            best, most = found, back + even
    return best or [Section(0, len(contents), 0, -1)]


def _cut(contents: list[bytes], length: int, upbeat: int) -> list[Section]:
    starts = list(range(upbeat, len(contents), length))
    if len(starts) > 1 and len(contents) - starts[-1] < length // 2:
        starts.pop()  # a few bars more belong to the section before
    found: list[Section] = []
    letters = 0
    for n, start in enumerate(starts):
        end = starts[n + 1] if n + 1 < len(starts) else len(contents)
        letter, again = letters, -1
        for other, past in zip(starts[:n], found, strict=True):
            pairs = list(zip(contents[start:end], contents[other : other + length], strict=False))
            if np.mean([a == b for a, b in pairs]) >= SAME and len(pairs) >= length // 2:
                letter, again = past.letter, other
                break
        letters += again < 0
        found.append(Section(start, end - start, letter % ROOM, again))
    if upbeat:
        found[0] = Section(0, found[0].length + upbeat, found[0].letter, -1)
    return found


def bar_places(sections: list[Section], bars: int) -> np.ndarray:
    """Of every bar: letter, bars since its section began, bars to its end, and the bar that comes back in it
    (-1: none), int64 (bars, 4)."""
    table = np.full((bars, 4), -1, dtype=np.int64)
    for section in sections:
        for i in range(section.length):
            table[section.first + i] = (
                section.letter,
                i,
                section.length - 1 - i,
                section.again + i if section.again >= 0 else -1,
            )
    return table


def form_of(sections: list[Section]) -> str:
    """As "AABB"."""
    return "".join(chr(ord("A") + section.letter) for section in sections)
