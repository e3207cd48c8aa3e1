"""What people write of chords and form, as a request takes it."""

import re
from collections.abc import Sequence

import numpy as np

from models.decoding.script import Plan
from models.tokens.place import NONE
from models.tokens.tokenizer import CellTokenizer
from music.score.chords import parse_chord

QUOTE = "'"  # marks a section that comes back varied
_SECTION = re.compile(r"([A-Z])('*)(?::([0-9]{1,3}))?")


def chord_line(tokenizer: CellTokenizer, plan: Plan, text: str, first: int = 0) -> np.ndarray:
    """Chords "Dm7 | G7 | C F | C" from bar `first` of a plan on, tick by tick, int (ticks of the plan, 3).

    Bars are set off by |; the chords of a bar share it evenly, on beats where they can; an empty bar or "?"
    is left open, "%" is the bar before again. Raises ValueError (UnknownChord) for more bars than there are
    or a symbol that is none.
    """
    bars = [bar.split() for bar in text.strip().strip("|").split("|")]
    if first + len(bars) > len(plan.metres):
        raise ValueError(
            f"chords for {len(bars)} bars, but there are {len(plan.metres) - first} to write: leave some out"
            " or "
            f"ask for more bars"
        )
    lengths = [int(tokenizer.bar_lengths[tokenizer.metres.index(metre)]) for metre in plan.metres]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    line = np.full((int(starts[-1]), 3), NONE, dtype=np.int64)
    before: list[str] = []
    for b, written in enumerate(bars, start=first):
        symbols = before if written == ["%"] else written
        before = symbols
        cuts = _cuts(lengths[b], plan.metres[b], len(symbols), tokenizer.ticks_per_quarter)
        for symbol, start, end in zip(symbols, cuts, cuts[1:], strict=False):
            if symbol != "?":
                line[starts[b] + start : starts[b] + end] = parse_chord(symbol)
    return line


def _cuts(length: int, metre: tuple[int, int], count: int, tpq: int) -> list[int]:
    """Where `count` chords of a bar begin, and its end: on beats. Raises ValueError where there are more
    chords than beats."""
    beat = tpq * 3 // 2 if metre[1] == 8 and metre[0] % 3 == 0 else tpq
    beats = max(-(-length // beat), 1)
    if count > beats:
        raise ValueError(f"{count} chords in a bar of {beats} beats: at most one a beat")
    return [round(i * beats / count) * beat for i in range(count)] + [length] if count else [0, length]


def form_named(places: np.ndarray | None, copied: Sequence[int]) -> str:
    """What `form_places` read, with the length of every section; "" for no form."""
    if places is None:
        return ""
    sections = []
    for b in np.flatnonzero(places[:, 1] == 0).tolist():
        letter, _, to_end, source = places[b].tolist()
        varied = source >= 0 and b not in copied
        sections.append(f"{chr(ord('A') + letter)}{QUOTE * varied}:{to_end + 1}")
    return " ".join(sections)


def form_places(form: "str | Sequence[str]", bars: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Sections such as "AABA", "AABB'" or "A:8 B:8 A:4" of so many bars: the place of each bar, int (bars, 4)
    as `FillRequest` has it, and the bars that come back note for note.

    Sections without a length share what is left evenly. A section whose letter was there before comes back as
    it was; with ' it comes back varied. The last bar of all is written as an ending, whatever its letter.
    Raises ValueError where the lengths do not make `bars`.
    """
    text = form if isinstance(form, str) else " ".join(form)
    found = [match.groups() for match in _SECTION.finditer(text)]
    rest = _SECTION.sub("", text)
    if not found or rest.strip(" ,|-"):
        raise ValueError(
            f"unreadable form {text!r}: write letters such as AABB, ' for a varied return, and lengths in "
            "bars "
            f"where they differ, such as A:8 B:8 A:4"
        )
    told = [int(length) if length else 0 for _, _, length in found]
    open_sections = told.count(0)
    left = bars - sum(told)
    if (open_sections and (left <= 0 or left % open_sections)) or (not open_sections and left):
        raise ValueError(
            f"the sections of {text!r} do not make {bars} bars"
            + (
                f": {left} bars are left for {open_sections} sections"
                if open_sections
                else f" but {sum(told)}"
            )
        )
    lengths = [length or left // open_sections for length in told]
    places = np.full((bars, 4), NONE, dtype=np.int64)
    heard: dict[str, tuple[int, int, int]] = {}
    copied: list[int] = []
    start = 0
    for (letter, varied, _), length in zip(found, lengths, strict=True):
        index, source, known = heard.get(letter, (len(heard), NONE, 0))
        for i in range(length):
            back = source + i if source >= 0 and i < known else NONE
            places[start + i] = (index, i, length - 1 - i, back)
            if back >= 0 and not varied and start + i < bars - 1:
                copied.append(start + i)
        heard.setdefault(letter, (index, start, length))
        start += length
    return places, tuple(copied)
