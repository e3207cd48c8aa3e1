"""What a musician hears first: how pieces end, whether sections come back, whether voices make chords, and
whether instruments keep to their parts. Every value stands beside the same of real pieces."""

from collections.abc import Sequence

import numpy as np
from symusic import Score

from models.tokens.tokenizer import CellTokenizer
from music.analysis.endings import ends_on_tonic
from music.analysis.harmony import closes, harmony
from music.analysis.structure import LAGS, repetition, same_bars
from music.analysis.voices import VoiceLeading, voice_leading
from music.score.form import bar_table, note_array
from music.score.instruments import DRUMS
from music.score.parts import part_of

SECTION = 8  # bars
VOICES = 4
Keyed = Sequence[tuple[Score, str]]  # scores and their keys


def endings(pieces: Keyed) -> dict[str, float]:
    """Shares of pieces whose last top note is the tonic, and that hold it for a quarter or more."""
    found = np.array([ends_on_tonic(score, key) for score, key in pieces if key]).reshape(-1, 2)
    return _rounded({"tonic": found[:, 0].mean(), "tonic_held": found[:, 1].mean()}) if len(found) else {}


def sections(scores: Sequence[Score]) -> dict[str, float]:
    """Share of the second eight bars that are as the first, share of pieces in which most are, and repetition
    after 4, 8 and 16 bars; of pieces of two sections and more."""
    able = [score for score in scores if len(bar_table(score)) >= 2 * SECTION]
    if not able:
        return {}
    same = np.array([same_bars(score, SECTION) for score in able])
    told = {"second_as_first": same.mean(), "pieces_second_as_first": (same >= 0.7).mean()}
    for lag in LAGS:
        values = [value for score in able if (value := repetition(score, lag)) is not None]
        if values:
            told[f"repeats_after_{lag}"] = np.mean(values)
    return _rounded(told)


def parts(tokenizer: CellTokenizer, scores: Sequence[Score]) -> dict[str, float]:
    """Shares of pieces with a track of a one-line instrument in which notes overlap, and with a note outside
    the compass of its instrument in the training data."""
    overlapping = outside = 0
    for score in scores:
        tracks = [
            (tokenizer.parts.get(DRUMS if track.is_drum else track.program), part_of(note_array(track)))
            for track in score.tracks
            if len(track.notes)
        ]
        known = [(usual, mine) for usual, mine in tracks if usual is not None]
        overlapping += any(usual.one_line and not mine.one_line for usual, mine in known)
        outside += any(mine.low < usual.low or mine.high > usual.high for usual, mine in known)
    return (
        _rounded({"overlapping": overlapping / len(scores), "outside": outside / len(scores)})
        if scores
        else {}
    )


def chorales(pieces: Keyed) -> dict[str, float]:
    """Of four voices: shares of beats that are chords and that lie in none, closes on the tonic chord and
    from the dominant, parallels per 1,000 moves."""
    able = [
        (score, key)
        for score, key in pieces
        if len(score.tracks) == VOICES and all(len(track.notes) for track in score.tracks)
    ]
    if not able:
        return {}
    beats = [harmony(score) for score, _ in able]
    home = np.array([closes(score, key) for score, key in able if key]).reshape(-1, 2)
    led = sum((voice_leading(score, score.tpq // 2) for score, _ in able), VoiceLeading(0, 0, 0, 0, 0, 0, 0))
    moves = max(led.moves, 1)
    return _rounded(
        {
            "chords": np.average([b.chords for b in beats], weights=[b.beats or 1 for b in beats]),
            "no_chord": np.average([b.foreign for b in beats], weights=[b.beats or 1 for b in beats]),
            "ends_on_tonic_chord": home[:, 0].mean() if len(home) else 0.0,
            "authentic_close": home[:, 1].mean() if len(home) else 0.0,
            "fifths_per_1000": 1000 * led.parallel_fifths / moves,
            "octaves_per_1000": 1000 * led.parallel_octaves / moves,
        }
    )


def _rounded(values: "dict[str, float | np.floating]") -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}
