"""New rhythms for old pitches: how often a region's notes and chords are struck, and how long they are
held."""

import numpy as np

from models.fill.passage import Draft
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import BY_NAME
from music.score.form import bar_ticks


def _aim(control: str, value: float) -> tuple[float, float]:
    """Edges of the class that a value is in."""
    return BY_NAME[control].bounds(BY_NAME[control].class_of(value))


def with_counts(tokenizer: CellTokenizer, draft: Draft, controls: dict[str, float], seed: int) -> Draft:
    """Notes and chords struck again, or struck once instead of several times running, until a density (or a
    note length, by way of density) can be reached.

    The pitches and their order stay, and chords stay together. Raises ValueError where the region has more
    different notes and chords in a row than it may have.
    """
    if "density" not in controls and "note_length" not in controls:
        return draft
    passage, random = draft.passage, np.random.default_rng(seed)
    rows, tpq = np.flatnonzero(passage.region.any(axis=1)), tokenizer.ticks_per_quarter
    lengths = {int(b): bar_ticks(*passage.plan.metres[b], tpq) for b in rows}
    quarters = sum(lengths.values()) / tpq
    for t in np.flatnonzero(passage.region.any(axis=0)):
        cells = {b: draft.cells[b][t] for b in lengths if passage.region[b, t] and len(draft.cells[b][t])}
        if not cells:
            continue
        notes = sum(len(cell) for cell in cells.values())
        units = {b: _units(cell) for b, cell in cells.items()}
        least = sum(
            len(unit)
            for b in units
            for unit, before in zip(units[b], [None, *units[b]], strict=False)
            if before is None or not _same(cells[b], unit, before)
        )
        if "density" in controls:
            low, high = _aim("density", controls["density"])
            wanted = round((low + high) / 2 * quarters)
            most = high * quarters
        else:
            low, high = _aim("note_length", controls["note_length"])
            sounding = sum(int(cell[:, 1].sum()) for cell in cells.values()) / tpq
            wanted = notes if low <= sounding / notes < high else round(sounding / ((low + high) / 2))
            most = quarters / max(low, 1e-9)
        if least > most:
            raise ValueError(
                f"track {passage.tracks[t] + 1} has {least} different pitches in a row in the "
                f"region: with all of them kept there is no room for at most {most:.0f} notes; "
                f"ask for more or shorter notes, or for the operation melody or infill"
            )
        wanted = max(wanted, least)
        total = notes
        while True:  # struck again where bars are emptiest, as long as that comes nearer
            b = min(units, key=lambda b: (len(units[b]) / lengths[b], random.random()))
            at = int(random.integers(len(units[b])))
            if total + len(units[b][at]) / 2 > wanted:
                break
            units[b].insert(at, units[b][at])
            total += len(units[b][at])
        while again := [
            (b, i)
            for b in units
            for i in range(1, len(units[b]))
            if _same(cells[b], units[b][i], units[b][i - 1]) and total - len(units[b][i]) / 2 >= wanted
        ]:
            b, i = max(again, key=lambda place: (len(units[place[0]]) / lengths[place[0]], random.random()))
            total -= len(units[b].pop(i))
        for b, struck in units.items():
            if len(struck) > lengths[b]:
                raise ValueError(
                    f"bar {passage.first + b + 1} of track {passage.tracks[t] + 1} would have "
                    f"{len(struck)} notes or chords in a row: more than its {lengths[b]} grid "
                    f"steps; ask for fewer or longer notes"
                )
            onset = np.repeat(
                np.arange(len(struck)) * lengths[b] // len(struck), [len(unit) for unit in struck]
            )  # only their order counts
            draft.cells[b][t] = np.column_stack(
                [onset, np.ones(len(onset), dtype=np.int64), cells[b][np.concatenate(struck), 2:]]
            )
    return draft


def _units(cell: np.ndarray) -> list[np.ndarray]:
    """Row numbers of the notes that begin together, in order of time."""
    return np.split(np.arange(len(cell)), np.flatnonzero(np.diff(cell[:, 0])) + 1)


def _same(cell: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(cell[a, 2], cell[b, 2])


def roomy_grid(tokenizer: CellTokenizer, draft: Draft) -> int:
    """Ticks of the coarsest of quavers, semiquavers and finer with half as many places again as any bar of
    the region has notes and chords in a row, so that none are crammed before a barline."""
    passage, tpq = draft.passage, tokenizer.ticks_per_quarter
    needs = [
        (bar_ticks(*passage.plan.metres[b], tpq), len(np.unique(draft.cells[b][t][:, 0])))
        for b, t in np.argwhere(passage.region).tolist()
    ]
    return next(
        grid
        for grid in (tpq // 2, tpq // 4, tpq // 6, 1)
        if all(length // grid >= 1.5 * notes for length, notes in needs) or grid == 1
    )


def articulated(tokenizer: CellTokenizer, draft: Draft, note_length: float) -> Draft:
    """Notes of the region held longer (towards the next onset of their track) or shorter, until their mean
    length is in the class of `note_length`, quarters."""
    low, high = (edge * tokenizer.ticks_per_quarter for edge in _aim("note_length", note_length))
    passage = draft.passage
    for t in np.flatnonzero(passage.region.any(axis=0)):
        rows = [int(b) for b in np.flatnonzero(passage.region[:, t]) if len(draft.cells[b][t])]
        if not rows:
            continue
        durations = np.concatenate([draft.cells[b][t][:, 1] for b in rows])
        room = np.concatenate(
            [
                _room(
                    draft.cells[b][t][:, 0], bar_ticks(*passage.plan.metres[b], tokenizer.ticks_per_quarter)
                )
                for b in rows
            ]
        )
        held = _towards(durations, np.maximum(room, durations), low, high)
        at = 0
        for b in rows:
            cell = draft.cells[b][t].copy()
            cell[:, 1] = held[at : at + len(cell)]
            at += len(cell)
            draft.cells[b][t] = cell
    return draft


def _room(onsets: np.ndarray, length: int) -> np.ndarray:
    """Ticks from each onset to the next later one, or to the barline."""
    return np.array(
        [min([int(other) for other in onsets if other > onset] or [length]) - int(onset) for onset in onsets]
    )


def _towards(durations: np.ndarray, most: np.ndarray, low: float, high: float) -> np.ndarray:
    """Durations changed as little as brings their mean into [low, high), between 1 and `most`."""
    held = durations.copy()
    while held.mean() < low and (held < most).any():
        held[int(np.argmax(np.where(held < most, most - held, -1)))] += 1
    while held.mean() >= high and (held > 1).any():
        held[int(np.argmax(held))] -= 1
    return held
