"""MusicXML and Humdrum kern through partitura, with the measures of the page as the bars of the score.

`python -m benchmarks.readers` compares partitura and verovio with music21 note by note:
docs/decisions/0002-readers.md.
"""

import tempfile
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from symusic import KeySignature, Score

from music.score.errors import UnreadableScore
from music.score.form import build
from music.score.instruments import program_of_part

CONVERTER = "partitura"
TICKS_PER_QUARTER = 960
Bar = tuple[Fraction, Fraction, tuple[int, int]]  # start and length in quarters, metre in force


def read_engraved(data: bytes, suffix: str) -> Score:
    """A score from .xml/.musicxml/.mxl/.krn bytes, one track a part, ties merged, grace notes left out.
    Raises UnreadableScore."""
    import partitura  # 0.7 s to import: only readers of notation pay for it

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"score{suffix}"
        path.write_bytes(data)
        try:
            parts = [part for part in partitura.load_score(str(path)).parts if len(part.note_array())]
        except Exception as error:
            raise UnreadableScore(
                f"partitura cannot read the file ({type(error).__name__}: {error}): check that "
                f"it opens in a notation program and export it again"
            ) from error
    if not parts:
        raise UnreadableScore("the file has no notes")
    bars = _merge_split_bars(_measures(parts[0]))
    upbeat = _upbeat(bars)
    origin = bars[0][0] - upbeat
    tracks = [(program_of_part(part.part_name or ""), False, _notes(part, origin)) for part in parts]
    score = build(
        [track for track in tracks if len(track[2])], _changes(bars, origin), TICKS_PER_QUARTER, velocity=80
    )
    signatures = parts[0].key_sigs
    if signatures:
        score.key_signatures.append(
            KeySignature(0, int(signatures[0].fifths), 1 if signatures[0].mode == "minor" else 0)
        )
    return score


def _notes(part: Any, origin: Fraction) -> np.ndarray:
    notes = part.note_array()
    notes = notes[notes["duration_quarter"] > 0]
    onset = np.rint((notes["onset_quarter"].astype(float) - float(origin)) * TICKS_PER_QUARTER)
    duration = np.rint(notes["duration_quarter"].astype(float) * TICKS_PER_QUARTER)
    return np.stack([onset, duration, notes["pitch"]], axis=1).astype(np.int64)


def _measures(part: Any) -> list[Bar]:
    """Measures of a part with the metre in force at each."""

    def quarter(t: int) -> Fraction:
        return Fraction(float(part.quarter_map(t))).limit_denominator(96)

    metres = [(ts.start.t, (int(ts.beats), int(ts.beat_type))) for ts in part.time_sigs] or [(0, (4, 4))]
    bars = []
    for measure in part.measures:
        metre = [m for t, m in metres if t <= measure.start.t][-1:] or [metres[0][1]]
        start, end = quarter(measure.start.t), quarter(measure.end.t)
        if end > start:
            bars.append((start, end - start, metre[0]))
    if not bars:
        raise UnreadableScore("the file has no measures")
    return bars


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
