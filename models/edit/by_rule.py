"""Edits by rule as operations of one request: which options each takes, and what it changes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from music.editing import transform
from music.editing.reshape import with_metre
from music.score.file_cells import FileCells
from music.score.form import bar_ticks, parse_metre
from music.score.keys import estimate_key

Ticks = Callable[[int], int]


@dataclass(frozen=True)
class Rule:
    """Options of a rule; the ones that are not its own stay as they are.

    semitones, to_key, steps (in `key`): of transpose. grid: "1/16", "1/8T": of quantise, with `strength`.
    amount: of swing, 0.5-0.75. timing_ms, loudness: standard deviations of humanise. qpm, factor: of tempo;
    factor of stretch. axis: MIDI pitch to invert about. pitch: lowest that stays in its track, of split.
    metre, fit: of metre; fit: one bar for one bar, else the notes stay and the barlines move.
    """

    semitones: int | None = None
    to_key: str = ""
    key: str = ""
    steps: int | None = None
    grid: str = "1/16"
    strength: float = 1.0
    amount: float = 2 / 3
    timing_ms: float = 12.0
    loudness: float = 6.0
    qpm: float | None = None
    factor: float | None = None
    axis: int | None = None
    pitch: int = 60
    metre: str = ""
    fit: bool = False
    seed: int = 0


def grid_ticks(name: str, tpq: int) -> float:
    """Ticks of a note value such as "1/16" or "1/8T" (T: triplet)."""
    numerator, _, denominator = name.rstrip("T").partition("/")
    if not (numerator.isdecimal() and denominator.isdecimal() and int(numerator) and int(denominator)):
        raise ValueError(f"{name!r} is no note value: use 1/4, 1/8, 1/16 or 1/32, with T for triplets")
    return 4 * tpq * int(numerator) / int(denominator) * (2 / 3 if name.endswith("T") else 1)


def _transpose(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    told = [
        name
        for name, given in (
            ("semitones", rule.semitones is not None),
            ("to_key", rule.to_key),
            ("steps", rule.steps is not None),
        )
        if given
    ]
    if len(told) != 1:
        raise ValueError("transpose takes one of semitones, to_key and steps")
    if rule.semitones is not None:
        return transform.on_notes(file, region, transform.transpose(rule.semitones), drums=False)
    key = rule.key or _key_of(file)
    change = transform.to_key(key, rule.to_key) if rule.to_key else transform.diatonic(key, rule.steps or 0)
    return transform.on_notes(file, region, change, drums=False)


def _key_of(file: FileCells) -> str:
    notes = [file.notes(k) for k, track in enumerate(file.score.tracks) if not track.is_drum]
    together = np.concatenate(notes) if notes else np.zeros((0, 4), dtype=np.int64)
    if not len(together):
        raise ValueError("only drums sound: there is no key to move from")
    return estimate_key(np.bincount(together[:, 2] % 12, weights=together[:, 1], minlength=12))[0]


def _quantise(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    return transform.on_notes(
        file, region, transform.quantise(grid_ticks(rule.grid, file.score.tpq), rule.strength)
    )


def _swing(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    return transform.on_notes(file, region, transform.swing(file.score.tpq, rule.amount))


def _humanise(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    qpm = file.score.tempos[0].qpm if len(file.score.tempos) else 120.0
    return transform.on_notes(
        file,
        region,
        transform.humanise(rule.seed, rule.timing_ms / 60_000 * qpm * file.score.tpq, rule.loudness),
    )


def _invert(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    return transform.on_notes(file, region, transform.invert(rule.axis), drums=False)


def _retrograde(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    rows = np.flatnonzero(region.any(axis=1))
    return transform.on_notes(
        file, region, transform.retrograde(int(file.bars[rows[0], 0]), int(file.bars[rows[-1], :2].sum()))
    )


def _tempo(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    if (rule.qpm is None) == (rule.factor is None):
        raise ValueError("tempo takes one of qpm and factor")
    return transform.with_tempo(file, rule.qpm, rule.factor)


def _stretch(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    if rule.factor is None:
        raise ValueError("stretch takes a factor: 2 doubles note lengths, 0.5 halves them")
    return transform.stretched(file, rule.factor)


def _metre(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    numerator, denominator = parse_metre(rule.metre)
    bar_ticks(numerator, denominator, file.score.tpq)
    if rule.fit:
        rows = np.flatnonzero(region.any(axis=1))
        return with_metre(file, int(rows[0]), int(rows[-1]) + 1, numerator, denominator)
    return transform.rebarred(file, numerator, denominator)


def _split(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    tracks = np.flatnonzero(region.any(axis=0))
    if len(tracks) != 1:
        raise ValueError("split takes one track: name it in `tracks`")
    return transform.split_at(file, int(tracks[0]), rule.pitch)


def _merge(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    return transform.merged(file, np.flatnonzero(region.any(axis=0)).tolist())


def _trim(rule: Rule, file: FileCells, region: np.ndarray) -> FileCells:
    rows = np.flatnonzero(region.any(axis=1))
    return transform.trimmed(file, int(rows[0]), int(rows[-1]) + 1)


def _same(rule: Rule, file: FileCells, region: np.ndarray) -> Ticks:
    return lambda tick: tick


def _rebarred(rule: Rule, file: FileCells, region: np.ndarray) -> Ticks:
    """With `fit` all moves with its bar; else the notes stay."""
    if not rule.fit:
        return _same(rule, file, region)
    fitted = _metre(rule, file, region)
    old, new = file.bars, fitted.bars

    def moved(tick: int) -> int:
        bar = int(np.searchsorted(old[:, 0], tick, side="right")) - 1
        inside = (tick - int(old[bar, 0])) * int(new[bar, 1]) // int(old[bar, 1])
        return int(new[bar, 0]) + inside

    return moved


def _longer(rule: Rule, file: FileCells, region: np.ndarray) -> Ticks:
    factor = rule.factor or 1.0
    return lambda tick: round(tick * factor)


def _cut_out(rule: Rule, file: FileCells, region: np.ndarray) -> Ticks:
    rows = np.flatnonzero(region.any(axis=1))
    start, end = int(file.bars[rows[0], 0]), int(file.bars[rows[-1], :2].sum())
    return lambda tick: max(tick - start, 0) if tick <= end else -1


@dataclass(frozen=True)
class RuleOperation:
    """options: what it takes beside bars and tracks. local: it changes notes of its region alone, so the edit
    contract holds outside it. ticks: of one that is not local, where each tick of the file goes (-1:
    nowhere); None: other events than notes cannot follow."""

    options: tuple[str, ...]
    apply: Callable[[Rule, FileCells, np.ndarray], FileCells]
    local: bool = True
    ticks: Callable[[Rule, FileCells, np.ndarray], Ticks] | None = None


RULES = {
    "transpose": RuleOperation(("semitones", "to_key", "steps", "key"), _transpose),
    "quantise": RuleOperation(("grid", "strength"), _quantise),
    "swing": RuleOperation(("amount",), _swing),
    "humanise": RuleOperation(("timing_ms", "loudness", "seed"), _humanise),
    "invert": RuleOperation(("axis",), _invert),
    "retrograde": RuleOperation((), _retrograde),
    "tempo": RuleOperation(("qpm", "factor"), _tempo, local=False, ticks=_same),
    "stretch": RuleOperation(("factor",), _stretch, local=False, ticks=_longer),
    "metre": RuleOperation(("metre", "fit"), _metre, local=False, ticks=_rebarred),
    "split": RuleOperation(("pitch",), _split, local=False),
    "merge": RuleOperation((), _merge, local=False),
    "trim": RuleOperation((), _trim, local=False, ticks=_cut_out),
}
