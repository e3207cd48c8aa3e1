"""How keys and pitches are written: signatures, and the letter and accidental of every note.

On the line of fifths (.. Bb -2, F -1, C 0, G 1, ..) a key's notes lie side by side. Chromatic notes are taken
from the stretch of twelve that music in the key uses: the lowered third and seventh as flats, the raised
fourth, first and fifth as sharps, and in minor the raised sixth and seventh (after Temperley 2001).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from symusic import Score

from music.score.form import note_array
from music.score.keys import MODES, TONICS, estimate_key, key_index

LETTERS = "FCGDAEB"  # by fifths, F is -1
_TO_MAJOR = {"major": 0, "minor": 3, "dorian": -2, "mixolydian": 5}  # semitones to the relative major
# from the signature to the tonic, and from there to the lowest note, in fifths
_FROM_SIGNATURE = {"major": (0, -3), "minor": (3, -5), "dorian": (2, -4), "mixolydian": (1, -3)}


@dataclass(frozen=True)
class Key:
    """fifths: sharps of the signature, negative for flats; mode: of MODES."""

    fifths: int
    mode: str = "major"

    @property
    def tonic(self) -> str:
        """As "F#"."""
        return name_at(self.fifths + _FROM_SIGNATURE[self.mode][0])

    @property
    def lowest(self) -> int:
        """Where the stretch of twelve begins on the line of fifths."""
        return self.fifths + _FROM_SIGNATURE[self.mode][0] + _FROM_SIGNATURE[self.mode][1]


def key_of_label(label: str) -> Key:
    """As "E dorian" -> two sharps. Raises ValueError naming the known words."""
    tonic, mode = key_index(label)
    word = MODES[mode]
    fifths = ((tonic + _TO_MAJOR[word]) * 7 + 5) % 12 - 5  # -5 (Db) to 6 (F#)
    return Key(-6 if fifths == 6 and word != "major" else fifths, word)


def name_at(fifths: int) -> str:
    """As 6 -> "F#", -2 -> "Bb"."""
    accidentals, letter = divmod(fifths + 1, 7)
    return LETTERS[letter] + ("#" * accidentals if accidentals > 0 else "b" * -accidentals)


def spelled(pitch: int, key: Key) -> tuple[str, int, int]:
    """Letter, alteration in semitones and octave (60 is C 4) of a MIDI pitch in a key."""
    fifths = (pitch * 7 - key.lowest) % 12 + key.lowest
    alter, letter = divmod(fifths + 1, 7)
    natural = "C.D.EF.G.A.B".index(LETTERS[letter])
    return LETTERS[letter], alter, (pitch - alter - natural) // 12 - 1


def keys_of(score: Score, label: str = "") -> list[tuple[int, Key]]:
    """Keys by the tick they hold from, the first from 0: of the label, else of the signatures of the score,
    else estimated from its notes."""
    if label:
        return [(0, key_of_label(label))]
    told: dict[int, Key] = {}
    for signature in sorted(score.key_signatures, key=lambda each: each.time):
        told[signature.time] = Key(signature.key, "minor" if signature.tonality else "major")
    if not told:
        return [(0, key_of_label(_estimated(score)))]
    first = min(told)
    return sorted({**told, 0: told[first]}.items())


def _estimated(score: Score) -> str:
    pitched = [note_array(track) for track in score.tracks if len(track.notes) and not track.is_drum]
    histogram = np.zeros(12)
    for notes in pitched:
        np.add.at(histogram, notes[:, 2] % 12, notes[:, 1])
    return estimate_key(histogram)[0] if pitched else f"{TONICS[0]} {MODES[0]}"


def key_at(keys: Sequence[tuple[int, Key]], tick: int) -> Key:
    return next(key for start, key in reversed(keys) if start <= tick)
