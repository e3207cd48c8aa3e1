"""Random scores, regions, controls and locks, and the worst network there is."""

from dataclasses import replace

import numpy as np
from symusic import Score

from models.decoding.locks import Locks
from models.fill.asked import form_places
from models.fill.request import FillRequest, empty, extended, plan_of
from models.tokens.labels import Labels
from models.tokens.layout import CellAsks
from music.score.form import bar_table, bar_ticks, build, note_array, without_overlaps
from tests.conftest import METRES, TPQ

C_MAJOR = frozenset([0, 2, 4, 5, 7, 9, 11])


class RandomDecoder:
    """Random scores, sharpened at random."""

    def __init__(self, vocabulary: int, slots: int, seed: int, context: int = 256) -> None:
        self.vocabulary, self.slots, self.context, self.random = (
            vocabulary,
            slots,
            context,
            np.random.default_rng(seed),
        )
        self.lengths = [0] * slots

    def prefill(self, slot: int, placed: np.ndarray) -> np.ndarray:
        self.lengths[slot] = 0
        return self.extend(slot, placed)

    def extend(self, slot: int, placed: np.ndarray) -> np.ndarray:
        self.lengths[slot] += len(placed)
        assert self.lengths[slot] <= self.context, "the cache would overflow"
        return self.step(np.array([slot]), placed[:1], 0)[0]

    def step(self, slots: np.ndarray, placed: np.ndarray, count: int = 1) -> np.ndarray:
        for slot in slots.tolist():
            self.lengths[slot] += count
            assert self.lengths[slot] <= self.context
        return self.random.normal(size=(len(slots), self.vocabulary)) * self.random.choice([0.1, 3.0, 30.0])


def random_score(random: np.random.Generator) -> Score:
    """One to three tracks of one to five bars, full of overlaps, chords, silence and notes over barlines."""
    metre, bars = METRES[random.integers(len(METRES))], int(random.integers(1, 6))
    length, tracks = bar_ticks(*metre, TPQ), []
    for index in range(int(random.integers(1, 4))):
        low, high = (0, 128) if random.random() < 0.5 else (55, 70)
        notes = [
            (
                int(random.integers(bars * length)),
                int(random.integers(1, 61)),
                int(random.integers(low, high)),
            )
            for _ in range(random.integers(1, 40))
        ]
        notes += [(0, 1, 60), (bars * length - 1, 1, 60)] if index == 0 else []
        clean = without_overlaps(np.array(notes, dtype=np.int64))
        clean[:, 1] = np.minimum(clean[:, 1], bars * length - clean[:, 0])
        drum = bool(random.random() < 0.2)
        tracks.append((0 if drum else int(random.choice([0, 40, 52])), drum, clean))
    return build(tracks, [(0, *metre)], TPQ, 80)


def random_locks(random: np.random.Generator, old: bool) -> Locks:
    """One lock or another, or none; rhythm and pitches only where there are old notes."""
    choices = [
        Locks(),
        Locks(scale=C_MAJOR),
        Locks(ranges={0: (60, 72)}),
        Locks(grid_ticks=int(random.choice([2, 3, 6]))),
        Locks(scale=C_MAJOR, ranges={0: (48, 84)}, grid_ticks=3),
    ]
    choices += [Locks(rhythm=True), Locks(pitches=True), Locks(rhythm=True, scale=C_MAJOR)] if old else []
    return choices[random.integers(len(choices))]


def random_request(random: np.random.Generator, seed: int) -> FillRequest:
    """Compose, continue at either end, or any set of cells, with controls of cells, locks and guidance at
    random."""
    score: Score | None = random_score(random)
    plan = plan_of(score)
    kind = random.integers(5)
    if kind == 0:
        score, missing = None, empty(plan)
    elif kind == 1:
        score, plan, missing = extended(score, plan, int(random.integers(1, 4)), bool(random.random() < 0.5))
    else:
        missing = random.random((len(plan.metres), len(plan.programs))) < random.random()
        missing[random.integers(len(missing)), random.integers(missing.shape[1])] = True
    cells: CellAsks = {
        (b, k): (("density", int(random.integers(8))),)
        for b, k in np.argwhere(missing).tolist()
        if random.random() < 0.2
    }
    guidance = 2.0 if random.random() < 0.1 else 1.0
    locks = random_locks(random, bool(kind > 1))
    held: tuple[np.ndarray, ...] = ()
    form: np.ndarray | None = None
    copied: tuple[int, ...] = ()
    if not locks.rhythm and not locks.pitches:
        if random.random() < 0.3:
            locks = replace(locks, lines=frozenset({0, 2}))
        if score is not None and kind > 1 and locks == Locks() and random.random() < 0.5:
            held = some_notes_inside(random, score, missing)
        if score is None and len(plan.metres) > 1 and random.random() < 0.5:
            form, copied = form_places(f"A A{random.choice(['', chr(39)])}", len(plan.metres) // 2 * 2)
            plan = replace(plan, metres=plan.metres[: len(form)])
            missing, cells = empty(plan), {}
    return FillRequest(
        plan,
        missing,
        Labels(bars=len(plan.metres)),
        seed,
        score,
        locks,
        cells,
        guidance=guidance,
        form=form,
        copied=copied,
        held=held,
    )


def some_notes_inside(
    random: np.random.Generator, score: Score, missing: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Notes of the cells that are to be filled, some of them, that stay."""
    starts, found = bar_table(score)[:, 0], []
    for k, track in enumerate(score.tracks):
        notes = note_array(track)
        bar = np.searchsorted(starts, notes[:, 0], side="right") - 1
        found.append(notes[missing[bar, k] & (random.random(len(notes)) < 0.2)])
    return tuple(found)
