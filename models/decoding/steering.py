"""Steering: scores of the next token are moved towards what is asked and away from what was written too much,
by how far the music is from what was asked so far.

What is learned of controls in a few minutes says little where something unusual is asked. Steering closes the
loop: after every note the value so far is compared with the class asked (models/tokens/place_tracks.py), and
tokens that bring it nearer become likelier by as much as it is off, those that lead away less likely. What
fits into the music is still the network's to say. The tones of a chord asked are lifted in the same way;
where form tells of a new bar, going on as an earlier one is made less likely, as copies beget copies; and the
last bar is written at a lower temperature: an ending is chosen with more care.
"""

import numpy as np

from models.tokens.place import Told
from models.tokens.place_tracks import Standing
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import CELL_CONTROLS
from music.score.chords import NO_CHORD, QUALITIES

PRESS = 3.0  # nats a factor of two in duration, for each factor of two that density or length is off
MOST_OFF = 1.5  # factors of two that count
MOST = 1.6  # times the middle of a class that is worked for, to make up for what was written
REST = 2.0  # nats for a rest of a quarter or more, for each factor of two that density is off
OUTSIDE, WIDEN = 6.0, 1.0  # nats off a pitch beyond the range asked, for one that widens one too narrow
ACROSS = 4.0  # nats for a note that sounds across the beat, where too few do; off, where too many
TO_OFF_BEAT = 3.0  # nats for a note from the beat that ends off it, where too few sound across
TONE, BASS = 1.5, 2.0  # nats for a tone of the chord asked on a beat, for its bass in the lowest track
OFF_BEAT = 0.4  # of TONE, off the beat
WORN = 0.6  # nats off a token that copies a bar of another section where form tells of a new one
CLOSE = 0.5  # nats for the tonic where a note ends the piece
ENDING = 0.7  # of the temperature, in the last bar
NAMES = tuple(control.name for control in CELL_CONTROLS)


class Steering:
    """`lean(told, standing)`: nats to add to the scores of the next token, float64 (V,), or None."""

    def __init__(self, tokenizer: CellTokenizer) -> None:
        self._tpq = tokenizer.ticks_per_quarter
        first, size = tokenizer.first_id, tokenizer.block_size
        self._size = len(tokenizer)
        self._duration = slice(first["Duration"], first["Duration"] + size["Duration"])
        self._lengths = np.arange(1, size["Duration"] + 1)
        self._pitches = [slice(first[k], first[k] + size[k]) for k in ("Pitch", "PitchDrum") if size.get(k)]
        self._position = slice(first["Position"], first["Position"] + size["Position"])
        self._ticks = np.arange(size["Position"])
        self._ends = [slice(first[kind], first[kind] + size[kind]) for kind in ("Bar", "Program")]
        self._eos = tokenizer.eos_id
        self._pitch = np.arange(size["Pitch"])
        self._tones = {
            (root, quality): np.isin(self._pitch % 12, [(root + step) % 12 for step in intervals])
            for root in range(12)
            for quality, intervals in enumerate(QUALITIES.values())
        }

    def temperature(self, standing: Standing | None) -> float:
        """What the temperature is multiplied with."""
        return ENDING if standing is not None and standing.closing else 1.0

    def lean(self, told: Told, standing: Standing | None) -> np.ndarray | None:
        """Where nothing is asked of what comes next: None."""
        if standing is None:
            return None
        asked = told.asks[standing.track] if standing.track < len(told.asks) else ()
        chord = (
            told.chords[standing.at] if told.chords is not None and standing.at < len(told.chords) else None
        )
        if chord is not None and not 0 <= chord[0] < NO_CHORD:
            chord = None
        closing = standing.closing and told.key is not None and standing.x < standing.length
        nothing_asked = not standing.so_far or all(index < 0 for index in asked)
        if chord is None and not standing.worn and not closing and nothing_asked:
            return None
        lean = np.zeros(self._size)
        lean[list(standing.worn)] -= WORN
        if standing.so_far:
            self._rhythm(lean, asked, standing)
            self._range(lean, asked, standing)
        if chord is not None and standing.x < standing.length:
            self._chord(lean, chord, standing)
        if closing and told.key is not None:
            self._close(lean, told.key[0], standing)
        return lean

    def _rhythm(self, lean: np.ndarray, asked: tuple[int, ...], standing: Standing) -> None:
        """Of durations, of pitches that take the duration as it stands, and of rests."""
        worth = np.zeros(len(self._lengths))
        for name, sign in (("density", -1.0), ("note_length", 1.0)):
            i = NAMES.index(name)
            if i < len(asked) and asked[i] >= 0:
                now, needed = max(standing.so_far[i], 1e-3), self._needed(i, asked[i], standing)
                off = float(np.clip(sign * np.log2(needed / now), -MOST_OFF, MOST_OFF))
                usual = self._tpq / needed if name == "density" else self._tpq * needed
                worth += PRESS * off * np.log2(self._lengths / usual)
                if name == "density":
                    self._rests(lean, off, standing)
        i = NAMES.index("syncopation")
        phase = standing.x % standing.beat
        if i < len(asked) and asked[i] >= 0:
            off = np.sign(self._needed(i, asked[i], standing) - standing.so_far[i])
            if phase:
                worth += ACROSS * off * (phase + self._lengths > standing.beat)
            elif off > 0:
                worth += TO_OFF_BEAT * (self._lengths % standing.beat > 0)
        lean[self._duration] += worth
        if standing.duration:
            for block in self._pitches:
                lean[block] += worth[standing.duration - 1]

    def _rests(self, lean: np.ndarray, off: float, standing: Standing) -> None:
        """Of positions further on and of the end of the cell: off a rest where there are too few notes (`off`
        below 0), for one where there are too many."""
        gaps = np.maximum(self._ticks - standing.x, 0)
        lean[self._position] += REST * off * np.minimum(gaps / self._tpq, 1.0)
        left = min(max(standing.length - standing.x, 0) / self._tpq, 1.0)
        for block in self._ends:
            lean[block] += REST * off * left
        lean[self._eos] += REST * off * left

    def _range(self, lean: np.ndarray, asked: tuple[int, ...], standing: Standing) -> None:
        i = NAMES.index("range")
        if i >= len(asked) or asked[i] < 0:
            return
        low, high = CELL_CONTROLS[i].bounds(asked[i])
        wide = np.maximum(self._pitch, standing.high) - np.minimum(self._pitch, standing.low)
        now = standing.so_far[i]
        outside = wide >= high
        worth = np.where(outside, -OUTSIDE, 0.0)
        if now < low:
            late = 1.0 + 2.0 / max(standing.bars_left, 1)
            worth += np.where(~outside & (wide > now), WIDEN * late, 0.0)
        lean[self._pitches[0]] += worth

    def _chord(self, lean: np.ndarray, chord: np.ndarray, standing: Standing) -> None:
        root, quality, bass = (int(value) for value in chord)
        strong = standing.x % standing.beat == 0
        lean[self._pitches[0]] += TONE * (1.0 if strong else OFF_BEAT) * self._tones[root, quality]
        if strong and standing.tracks > 1 and standing.track == standing.tracks - 1 and bass >= 0:
            lean[self._pitches[0]] += BASS * (self._pitch % 12 == bass)

    def _close(self, lean: np.ndarray, tonic: int, standing: Standing) -> None:
        """Of a note to the end of the last bar, in the uppermost and the lowest track: the tonic."""
        ends = standing.duration >= standing.length - standing.x
        if ends and standing.track in (0, standing.tracks - 1):
            lean[self._pitches[0]] += CLOSE * (self._pitch % 12 == tonic)

    def _needed(self, control: int, index: int, standing: Standing) -> float:
        """The value that what is left must have for the whole to come to the middle of the class asked; the
        value so far where that is well inside the class."""
        low, high = CELL_CONTROLS[control].bounds(index)
        now, margin = standing.so_far[control], (high - low) / 4
        lowest, highest = index == 0, index == CELL_CONTROLS[control].classes - 1
        if (lowest or low + margin <= now) and (highest or now < high - margin):
            return now
        aim = (low + high) / 2
        written = standing.notes * self._tpq / max(standing.so_far[0], 1e-3)
        left = max(standing.bars_left - 1, 0) * standing.length + standing.length - standing.x
        return float(np.clip(aim + (aim - now) * written / max(left, self._tpq), aim / MOST, aim * MOST))
