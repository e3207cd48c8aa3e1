"""What the instruments of the training data keep to, as locks of what is written: their compass, and one line
where they play one. An instrument that is not known is written as for the nearest in its part."""

from collections.abc import Container
from dataclasses import replace

from models.decoding.locks import Locks, as_served
from models.tokens.labels import TrackAsk
from models.tokens.tokenizer import CellTokenizer
from music.analysis.voices import COMPASS
from music.score.instruments import DRUMS
from music.score.parts import Part

FAMILY = 8  # General MIDI programs of one family
WELL_KNOWN = (
    0.02  # share of the training notes from which on an instrument is known well enough to stand for others
)
CHORUS = 52


def as_played(
    tokenizer: CellTokenizer,
    programs: tuple[int, ...],
    style: str,
    locks: Locks,
    polyphonic: Container[int] = (),
) -> Locks:
    """`locks` with the compass of every track that they leave open, and one line where its instrument plays
    one and the track is not to be `polyphonic`. Four voices of a chorale have the compass of theirs."""
    locks = as_served(locks, style)
    chorale = style == "chorale" and programs == (CHORUS,) * len(COMPASS)
    ranges = dict(locks.ranges)
    lines = set(locks.lines)
    for k, program in enumerate(programs):
        part = tokenizer.parts.get(program)
        if part is None or program == DRUMS:
            continue
        low, high = COMPASS[k] if chorale else (part.low, part.high)
        if not locks.scale or any(pitch % 12 in locks.scale for pitch in range(low, high + 1)):
            ranges.setdefault(k, (low, high))
        if part.one_line and k not in polyphonic:
            lines.add(k)
    return replace(locks, ranges=ranges, lines=frozenset(lines))


def polyphonic(tracks: tuple[TrackAsk, ...]) -> frozenset[int]:
    """Tracks of which more than one note at once is asked."""
    return frozenset(k for k, track in enumerate(tracks) if dict(track.classes).get("polyphony", 0) > 0)


def nearest_program(tokenizer: CellTokenizer, program: int, part: Part | None = None) -> int | None:
    """The program itself if the model knows it, else a well known one of its family, else the well known one
    whose compass lies nearest to the part's (without a part: the one heard most); None for unknown drums."""
    if program in tokenizer.programs:
        return program
    if program == DRUMS:
        return None
    pitched = [p for p in tokenizer.programs if p != DRUMS]
    heard = {p: tokenizer.parts[p].notes if p in tokenizer.parts else 0 for p in pitched}
    total = max(sum(heard.values()), 1)
    known = [p for p in pitched if heard[p] >= WELL_KNOWN * total] or pitched
    family = [p for p in known if p // FAMILY == program // FAMILY]
    if family:
        return min(family, key=lambda p: abs(p - program))
    if part is None or not all(p in tokenizer.parts for p in known):
        return max(known, key=lambda p: (heard[p], -p))
    middle = part.low + part.high
    return min(known, key=lambda p: (abs(tokenizer.parts[p].low + tokenizer.parts[p].high - middle), p))
