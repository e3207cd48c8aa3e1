"""Keys: labels such as "E dorian", parsing of ABC and key-signature headers, and estimation from notes."""

import re

import numpy as np

MODES = ("major", "minor", "dorian", "mixolydian")
TONICS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_MODE_OF = {
    "": "major",
    "maj": "major",
    "ion": "major",
    "lyd": "major",
    "m": "minor",
    "min": "minor",
    "aeo": "minor",
    "phr": "minor",
    "loc": "minor",
    "dor": "dorian",
    "mix": "mixolydian",
}
_KEY = re.compile(r"^\s*([A-G])([#b]?)\s*([A-Za-z]*)")

# Krumhansl & Kessler 1982, probe-tone ratings; rows: major, minor.
_PROFILES = np.array(
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ]
)


def parse_key(text: str) -> str:
    """As "Edor" -> "E dorian", "F#m" -> "Gb minor", "G" -> "G major"; "" where there is no key in the text.

    Lydian counts as major and phrygian, aeolian and locrian as minor: their labels are too rare to learn.
    """
    match = _KEY.match(text)
    if not match:
        return ""
    letter, accidental, rest = match.groups()
    word = rest.lower()
    mode = _MODE_OF.get("m" if word == "m" else word[:3])
    if mode is None:
        return ""
    tonic = (_STEPS[letter] + {"": 0, "#": 1, "b": -1}[accidental]) % 12
    return f"{TONICS[tonic]} {mode}"


def key_index(label: str) -> tuple[int, int]:
    """As "E dorian" -> (4, 2): pitch class of the tonic and index in MODES. Raises ValueError naming the
    known words."""
    tonic, _, mode = label.strip().partition(" ")
    parsed = parse_key(f"{tonic[:1].upper()}{tonic[1:]} {mode or 'major'}")
    if not parsed or (mode or "major") not in MODES:
        raise ValueError(
            f"unknown key {label!r}: write a tonic and a mode, e.g. 'D major'; tonics "
            f"{', '.join(TONICS)}; modes {', '.join(MODES)}"
        )
    name, _, mode = parsed.partition(" ")
    return TONICS.index(name), MODES.index(mode)


def key_correlations(pitch_classes: np.ndarray) -> np.ndarray:
    """Correlation of a pitch-class histogram (12,) with each major and minor profile: float (24,),
    tonic-major first."""
    weights = pitch_classes - pitch_classes.mean()
    norm = np.linalg.norm(weights)
    if norm == 0:
        return np.zeros(24)
    rows = np.stack([np.roll(profile, tonic) for profile in _PROFILES for tonic in range(12)])
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows @ weights / (np.linalg.norm(rows, axis=1) * norm)


def estimate_key(pitch_classes: np.ndarray, sharps: int | None = None) -> tuple[str, float]:
    """Key label and its clarity (correlation, -1..1) by Krumhansl's key finding.

    With `sharps` (a notated signature, negative for flats) only the relative pair of that signature is
    compared.
    """
    correlations = key_correlations(pitch_classes)
    if sharps is not None:
        major = sharps * 7 % 12
        candidates = [major, 12 + (major + 9) % 12]
    else:
        candidates = list(range(24))
    best = max(candidates, key=lambda i: correlations[i])
    return f"{TONICS[best % 12]} {MODES[best // 12]}", float(correlations[best])


def key_on(pitch_classes: np.ndarray, tonic: int) -> str:
    """The major or minor key on a tonic 0-11 that fits a pitch-class histogram (12,) better: a piece in minor
    that ends with a major third is in minor still."""
    correlations = key_correlations(pitch_classes)
    mode = int(correlations[12 + tonic] > correlations[tonic])
    return f"{TONICS[tonic]} {MODES[mode]}"


_SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}


def scale_of(label: str) -> frozenset[int]:
    """Pitch classes of a key: "D major" -> {1, 2, 4, 6, 7, 9, 11}; minor has both sevenths. Raises ValueError
    naming the known words."""
    tonic, mode = key_index(label)
    return frozenset((tonic + step) % 12 for step in _SCALES[MODES[mode]])
