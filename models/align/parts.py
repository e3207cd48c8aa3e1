"""The parts of the reward: what is measured of a score, in which unit, and how its worth is read off real
music."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from symusic import Score

from models.judge.style_classifier import Judges
from models.tokens.labels import Labels
from music.analysis.descriptors import describe, histograms
from music.analysis.endings import ends_on_tonic, key_margin, metre_profile
from music.analysis.harmony import closes, harmony
from music.analysis.similarity import RunIndex, melody
from music.analysis.structure import repetition
from music.analysis.voices import VoiceLeading, voice_leading
from music.score.cells import cell_statistics, control_classes
from music.score.form import bar_table

VOICES = 4  # tracks of four-part writing
LAG, SECTION = 4, 8  # bars after which phrases and sections come back


@dataclass
class Heard:
    """A score and what was asked of it, measured once however many parts look at it."""

    score: Score
    labels: Labels
    given: tuple[int, ...] = ()  # tracks that were not written but given

    @cached_property
    def descriptors(self) -> dict[str, float]:
        return describe(self.score)

    @cached_property
    def pitch_classes(self) -> np.ndarray:
        return histograms(self.score)["pitch_class_histogram"]

    @cached_property
    def voices(self) -> VoiceLeading | None:
        """Of four pitched tracks, looked at every eighth; None for others."""
        able = len(self.score.tracks) == VOICES and all(
            len(t.notes) and not t.is_drum for t in self.score.tracks
        )
        return voice_leading(self.score, self.score.tpq // 2) if able else None


@dataclass(frozen=True)
class Tools:
    """What parts read beside the score: judges of style and dance, onset profiles of each metre in real
    music, melodies of the train split."""

    judges: Judges
    metres: Mapping[str, np.ndarray]
    runs: RunIndex


@dataclass(frozen=True)
class Part:
    """One reward. worth: `reach` (up to the real mean), `near` (within the real distribution), `rare` (an
    error rate), `share` (as it is)."""

    name: str
    unit: str
    source: str
    worth: str
    value: Callable[[Heard, Tools], float | None]


def _style(heard: Heard, tools: Tools) -> float | None:
    judge = tools.judges.get("style")
    if judge is None or heard.labels.style not in judge.labels:
        return None
    return float(np.exp(judge.log_probabilities([heard.score])[0, judge.labels.index(heard.labels.style)]))


def _controls(heard: Heard, tools: Tools) -> float | None:
    statistics, length = cell_statistics(heard.score), int(bar_table(heard.score)[:, 1].sum())
    hits = []
    for k, track in enumerate(heard.labels.tracks):
        found = control_classes(statistics[:, k], length, heard.score.tpq)
        hits += [max(0.0, 1 - abs(found.get(name, -9) - index) / 2) for name, index in track.classes]
    return float(np.mean(hits)) if hits else None


def _metre(heard: Heard, tools: Tools) -> float | None:
    _, _, numerator, denominator = bar_table(heard.score)[-1].tolist()
    real = tools.metres.get(f"{numerator}/{denominator}")
    if real is None:
        return None
    mine = metre_profile(heard.score)
    return float(mine @ real / max(np.linalg.norm(mine) * np.linalg.norm(real), 1e-12))


def _written(heard: Heard) -> list[np.ndarray]:
    return [
        line
        for k in range(len(heard.score.tracks))
        if k not in heard.given
        for line in melody(heard.score, k)
    ]


def _per_moves(count: Callable[[VoiceLeading], int]) -> Callable[[Heard, Tools], float | None]:
    return lambda heard, tools: (
        1000 * count(heard.voices) / heard.voices.moves
        if heard.voices is not None and heard.voices.moves
        else None
    )


PARTS = (
    Part(
        "style",
        "probability",
        "classifier of models/judge/style_classifier.py on half of the train split",
        "reach",
        _style,
    ),
    Part(
        "controls",
        "share, half for a neighbouring class",
        "classes of music/score/cells.py",
        "share",
        _controls,
    ),
    Part(
        "key",
        "correlation above the best other key",
        "Krumhansl & Kessler 1982",
        "reach",
        lambda heard, tools: key_margin(heard.pitch_classes, heard.labels.key) if heard.labels.key else None,
    ),
    Part("metre", "cosine with the metre's onset profile", "Palmer & Krumhansl 1990", "near", _metre),
    Part(
        "ending",
        "half for the tonic as last note, half for holding it",
        "music/analysis/endings.py",
        "share",
        lambda heard, tools: (
            float(np.mean(ends_on_tonic(heard.score, heard.labels.key))) if heard.labels.key else None
        ),
    ),
    Part(
        "close",
        "half for the tonic chord at the end, half for its dominant before",
        "music/analysis/harmony.py",
        "share",
        lambda heard, tools: (
            float(np.mean(closes(heard.score, heard.labels.key)))
            if heard.labels.key and heard.voices
            else None
        ),
    ),
    Part(
        "chords",
        "share of beats that are triads or sevenths",
        "music/analysis/harmony.py",
        "reach",
        lambda heard, tools: harmony(heard.score).chords if heard.voices else None,
    ),
    Part(
        "fifths",
        "per 1,000 moves",
        "music/analysis/voices.py",
        "rare",
        _per_moves(lambda voices: voices.parallel_fifths),
    ),
    Part(
        "octaves",
        "per 1,000 moves",
        "music/analysis/voices.py",
        "rare",
        _per_moves(lambda voices: voices.parallel_octaves),
    ),
    Part(
        "crossings",
        "per 1,000 steps",
        "music/analysis/voices.py",
        "rare",
        lambda heard, tools: (
            1000 * heard.voices.crossings / max(heard.voices.steps, 1) if heard.voices else None
        ),
    ),
    Part(
        "compass",
        "notes outside per 1,000",
        "music/analysis/voices.py",
        "rare",
        lambda heard, tools: (
            1000 * heard.voices.out_of_compass / max(heard.voices.notes, 1) if heard.voices else None
        ),
    ),
    Part(
        "repetition",
        "share of bars heard before",
        "music/analysis/descriptors.py",
        "near",
        lambda heard, tools: heard.descriptors["bar_repetition"],
    ),
    Part(
        "form",
        f"share of bars as {LAG} before",
        "music/analysis/structure.py",
        "near",
        lambda heard, tools: repetition(heard.score, LAG),
    ),
    Part(
        "sections",
        f"share of bars as {SECTION} before",
        "music/analysis/structure.py",
        "reach",
        lambda heard, tools: repetition(heard.score, SECTION),
    ),
    Part(
        "rhythm",
        "bits of note lengths",
        "music/analysis/descriptors.py",
        "near",
        lambda heard, tools: heard.descriptors["note_length_entropy"],
    ),
    Part(
        "pitch",
        "bits of pitch classes",
        "music/analysis/descriptors.py",
        "near",
        lambda heard, tools: heard.descriptors["pitch_class_entropy"],
    ),
    Part(
        "steps",
        "share of intervals",
        "music/analysis/descriptors.py",
        "near",
        lambda heard, tools: heard.descriptors["stepwise_motion"],
    ),
    Part(
        "originality",
        "intervals shared with a train piece",
        "Karp & Rabin 1987, music/analysis/similarity.py",
        "near",
        lambda heard, tools: float(tools.runs.longest_run(_written(heard))[0]),
    ),
)


NAMES = tuple(part.name for part in PARTS)
