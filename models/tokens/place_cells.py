"""What each token of a sequence is, and where the cells of a section begin: the ground of places."""

from dataclasses import dataclass

import numpy as np

from models.tokens.place import NONE
from models.tokens.tokenizer import CellTokenizer

OTHER, BAR, PROGRAM, POSITION, DURATION, PITCH, AHEAD, FILL, END = range(9)


class Kinds:
    """What each token is, as arrays over the vocabulary: its kind (above), its value (of a bar its length in
    ticks), and whether a bar is compound."""

    def __init__(self, tokenizer: CellTokenizer) -> None:
        self.tpq = tokenizer.ticks_per_quarter
        self.kind, self.value = (np.zeros(len(tokenizer), dtype=np.int64) for _ in range(2))
        self.beat = np.full(len(tokenizer), self.tpq)
        for name, code in (
            ("Bar", BAR),
            ("Program", PROGRAM),
            ("Position", POSITION),
            ("Duration", DURATION),
            ("Pitch", PITCH),
            ("PitchDrum", PITCH),
        ):
            block = slice(tokenizer.first_id[name], tokenizer.first_id[name] + tokenizer.block_size[name])
            self.kind[block] = code
            self.value[block] = np.arange(tokenizer.block_size[name])
            if name == "Bar":
                self.value[block] = tokenizer.bar_lengths
                compound = [d == 8 and n % 3 == 0 for n, d in tokenizer.metres]
                self.beat[block] = np.where(compound, 3 * self.tpq // 2, self.tpq)
        self.kind[tokenizer.id_of("Part", "Ahead")] = AHEAD
        self.kind[tokenizer.id_of("Part", "Fill")] = FILL
        self.kind[tokenizer.eos_id] = END
        self.mask = tokenizer.mask_id
        # for one token at a time plain numbers are faster
        self.lists = (self.kind.tolist(), self.value.tolist(), self.beat.tolist())


@dataclass
class Cells:
    """Bar, track, expected onset and running duration at every token of a section, and its notes.

    notes: int (N, 6): token, track, bar, onset from the barline, duration, pitch. opened: the Program or Bar
    token that a token belongs to.
    """

    bar: np.ndarray
    track: np.ndarray
    x: np.ndarray
    duration: np.ndarray
    opened: np.ndarray
    in_cell: np.ndarray
    is_note: np.ndarray
    lengths: np.ndarray
    beats: np.ndarray
    notes: np.ndarray

    @classmethod
    def of(cls, kinds: Kinds, ids: np.ndarray, first_bar: int) -> "Cells":
        kind, value, at = kinds.kind[ids], kinds.value[ids], np.arange(len(ids))
        is_bar, is_program = (kind == BAR) | (kind == END), kind == PROGRAM
        bar = np.cumsum(kind == BAR) - 1
        programs = np.cumsum(is_program)
        opened = np.maximum.accumulate(np.where(is_bar | is_program, at, NONE))
        bar_at = np.maximum.accumulate(np.where(is_bar, at, 0))
        track = np.where(bar >= 0, programs - programs[bar_at] - 1, NONE)
        timed = np.maximum.accumulate(np.where(kind == DURATION, at, NONE))
        duration = np.where(timed > opened, value[timed] + 1, 0)
        is_note = (kind == PITCH) & (track >= 0)
        anchor = np.maximum.accumulate(np.where((kind == POSITION) | is_bar | is_program, at, 0))
        written = np.cumsum(np.where(is_note, duration, 0))
        x = np.where(kind[anchor] == POSITION, value[anchor], 0) + written - written[anchor]
        bar = bar + np.where(bar >= 0, first_bar, 0)
        n = np.flatnonzero(is_note)
        notes = np.stack([n, track[n], bar[n], (x - duration)[n], duration[n], value[n]], axis=1)
        bars = kind == BAR
        return cls(
            bar, track, x, duration, opened, track >= 0, is_note, value[bars], kinds.beat[ids][bars], notes
        )
