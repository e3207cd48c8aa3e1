"""Musical place: what a reader of the score knows at a token beside the tokens: the beat, what sounds in the
other tracks, the bars that are left, the chord that is asked, what stood here a section ago.

All of it follows from the tokens read so far and from what is told of the sequence (`Told`), so the
likelihood of a piece stays a likelihood. A token *with its place* is WIDTH numbers: its id; token ids that
would go on as another bar did, an earlier one or one that is kept ahead (COPIES of them, 0: none); and an
entry of one table for each column below (0: nothing to say). The network adds what each says to the embedding
of the token (models/network/decoder.py). models/tokens/place_reader.py reads whole sequences at once,
models/tokens/place_scan.py token by token; docs/decisions/0015-musical-place.md has what each column is
worth.
"""

from dataclasses import dataclass

import numpy as np

from music.score.cells import CELL_CONTROLS
from music.score.chords import NO_CHORD, QUALITIES
from music.score.keys import MODES

NONE = -1
PITCHES = 128
OFFSETS = (-3, -2, -1, 1, 2, 3)  # tracks that are heard one by one, from the one at work; below it: +
LAGS = (4, 8, 16)  # bars at which music comes back
TICKS = 96  # longer bars and notes share the last entry
MOTION = 13  # semitones; larger leaps share an entry
CHORD = 6  # notes of a cell that are looked back at for what its own track still sounds
HEAVY = 24  # ticks: a longer note weighs no more among the pitch classes heard so far
COPY_NAMES = (*(f"{lag}" for lag in LAGS), "", *(f"+{lag}" for lag in LAGS))
BARS, PHRASE, RUNS, LEVELS, SOON, SECTIONS, TRACKS = 64, 16, 4, 8, 8, 8, 16
SIZES = {  # entries of each column
    "tick": TICKS + 1,  # from the barline to where the next note is expected
    "to_barline": TICKS + 1,
    "track": TRACKS,
    "from_bottom": TRACKS,
    "duration": TICKS + 1,  # as it stands
    "last": PITCHES,  # pitches of this track
    "before_last": PITCHES,
    **{f"pitch{o:+d}": PITCHES for o in OFFSETS},  # what a track sounds there
    **{f"motion{o:+d}": 2 * MOTION + 1 for o in OFFSETS},  # and from what it came
    **{
        f"parallel{o:+d}": PITCHES for o in OFFSETS
    },  # the pitch that would make a parallel fifth or octave with it
    **{f"sounds{pc}": 1 for pc in range(12)},  # pitch classes of all other tracks
    **{f"own{pc}": 1 for pc in range(12)},
    "moves": 2,  # whether a note starts there in another track
    "next_move": TICKS + 1,
    **{f"share{pc}": LEVELS for pc in range(12)},  # of all that was heard so far
    "own_ahead": PITCHES,  # the next note that is kept in this track
    "own_ahead_in": SOON + 1,  # bars to it
    "melody_next": PITCHES,  # of the uppermost other track that is kept ahead the next note, ticks to it
    "melody_next_in": TICKS + 1,
    "melody_after": PITCHES,  # and the one after
    "bars_left": BARS + 1,
    "bar": PHRASE,
    "closing": 12,  # whether a note of this length ends with the bar, and of which bar it is the end
    # of the last four bars those the same as so many bars back, as the bar that form tells of, as in so
    # many bars ahead, where they are kept
    **{f"run{name}": RUNS + 2 for name in COPY_NAMES},
    "section": SECTIONS,
    "section_bar": PHRASE,
    "section_left": PHRASE,
    "tonic": 12,
    "mode": len(MODES),
    "degree": 12,  # of the last pitch
    "chord_root": NO_CHORD + 1,
    "chord_quality": len(QUALITIES),
    "chord_bass": 12,
    **{f"tone{pc}": 1 for pc in range(12)},  # of the chord
    "chord_next": NO_CHORD + 1,
    "chord_ends": TICKS + 1,
    **{f"ask_{c.name}": c.classes * (c.classes + 1) for c in CELL_CONTROLS},  # asked, and what it is so far
}
COLUMN = {name: i for i, name in enumerate(SIZES)}
FIRST = np.cumsum([1, *SIZES.values()])[:-1]  # entry of value 0 of each column
ENTRIES = 1 + sum(SIZES.values())
COPIES = len(COPY_NAMES)
WIDTH = 1 + COPIES + len(SIZES)
COPIED = (
    *range(1, 1 + COPIES),
    *(1 + COPIES + COLUMN[f"run{name}"] for name in COPY_NAMES),
)  # what says how it went


def entry(name: str, value: int) -> int:
    """Entry of a value of a column; values past its size share the last."""
    return int(FIRST[COLUMN[name]]) + min(value, SIZES[name] - 1)


@dataclass(frozen=True, eq=False)
class Told:
    """What is known of a sequence beside its tokens. Bars shown count from the first after Fill (or of the
    sequence, where there is no Fill).

    tracks: of the score. bars_left: from the first bar shown to the end of the piece, 0: not told. first_bar:
    its number in the piece from 0, NONE: not told. before: bars shown before the first that is to be written,
    where Ahead begins. key: pitch class of the tonic and index in MODES. asks: of each track the class of
    each of CELL_CONTROLS, NONE: not asked. sections: of each bar shown its letter (0: A), bars since it
    began, bars to its end; () where form is not told. again: for each bar shown the bar shown that comes back
    in it. chords: int (ticks from the first bar shown, 3), root (NO_CHORD: none, NONE: left open), quality,
    bass.
    """

    tracks: int
    bars_left: int = 0
    first_bar: int = NONE
    before: int = 0
    key: tuple[int, int] | None = None
    asks: tuple[tuple[int, ...], ...] = ()
    sections: tuple[tuple[int, int, int], ...] = ()
    again: tuple[int, ...] = ()
    chords: "np.ndarray | None" = None


@dataclass(frozen=True, eq=False)
class ChordLine:
    """The chords of `Told` tick by tick: entries of the chord's columns, int (X, 6 + 12): root, quality,
    bass, tones, next root, ticks to the change."""

    entries: np.ndarray

    @classmethod
    def of(cls, chords: np.ndarray) -> "ChordLine":
        X = len(chords)
        root, quality, bass = chords.T
        changes = np.append((np.diff(chords, axis=0) != 0).any(axis=1), True)  # the last tick of each chord
        ends = np.where(changes, np.arange(X) + 1, X + 1)
        ends = np.minimum.accumulate(ends[::-1])[::-1] if X else ends
        following = root[np.minimum(ends, X - 1)] if X else root
        known, sounding = root >= 0, (root >= 0) & (root < NO_CHORD)
        tones = np.zeros((X, 12), dtype=np.int64)
        for i, (_, intervals) in enumerate(QUALITIES.items()):
            rows = np.flatnonzero(sounding & (quality == i))
            for step in intervals:
                tones[rows, (root[rows] + step) % 12] = 1

        def put(name: str, values: np.ndarray, where: np.ndarray) -> np.ndarray:
            return np.where(where, FIRST[COLUMN[name]] + np.minimum(values, SIZES[name] - 1), 0)

        first = COLUMN["tone0"]
        return cls(
            np.column_stack(
                [
                    put("chord_root", root, known),
                    put("chord_quality", quality, sounding),
                    put("chord_bass", bass, sounding & (bass >= 0)),
                    tones * FIRST[first : first + 12],
                    put("chord_next", following, known & (ends < X) & (following >= 0)),
                    put("chord_ends", ends - np.arange(X), known),
                ]
            )
        )
