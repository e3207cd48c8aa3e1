"""New rhythms for old pitches: how many notes a region gets, and how long they are held."""

import numpy as np

from models.passage import Draft
from models.tokens import CellTokenizer
from music.cells import BY_NAME, CellControl
from music.score import bar_ticks


def class_range(control: CellControl, value: float) -> tuple[float, float]:
    """Lower and upper edge of the class of a value; the highest class ends at 1.5 times its edge."""
    index = control.class_of(value)
    edges = (0.0, *control.edges, 1.5 * control.edges[-1])
    return edges[index], edges[index + 1]


def with_counts(tokenizer: CellTokenizer, draft: Draft, controls: dict[str, float], seed: int) -> Draft:
    """Pitches struck again, or struck once instead of several times running, until a density (or a note length, by way of density) can be reached.

    The pitches and their order stay. Raises ValueError where the region has more different pitches in a row than it may have notes.
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
        least = sum(1 + int((np.diff(cell[:, 2]) != 0).sum()) for cell in cells.values())
        if "density" in controls:
            low, high = class_range(BY_NAME["density"], controls["density"])
            wanted = round((low + high) / 2 * quarters)
            most = high * quarters
        else:
            low, high = class_range(BY_NAME["note_length"], controls["note_length"])
            sounding = sum(int(cell[:, 1].sum()) for cell in cells.values()) / tpq
            wanted = notes if low <= sounding / notes < high else round(sounding / ((low + high) / 2))
            most = quarters / max(low, 1e-9)
        if least > most:
            raise ValueError(f"track {passage.tracks[t] + 1} has {least} different pitches in a row in the region: with all of them kept there is no room for at most {most:.0f} notes; ask for more or shorter notes, or for the operation melody or infill")
        wanted = max(wanted, least)
        order = {b: list(range(len(cell))) for b, cell in cells.items()}
        while sum(map(len, order.values())) < wanted:
            b = min(order, key=lambda b: (len(order[b]) / lengths[b], random.random()))
            order[b].insert(at := int(random.integers(len(order[b]))), order[b][at])
        while sum(map(len, order.values())) > wanted:
            again = [(b, i) for b in order for i in range(1, len(order[b])) if cells[b][order[b][i], 2] == cells[b][order[b][i - 1], 2]]
            b, i = max(again, key=lambda place: (len(order[place[0]]) / lengths[place[0]], random.random()))
            del order[b][i]
        for b, kept in order.items():
            if len(kept) > lengths[b]:
                raise ValueError(f"bar {passage.first + b + 1} of track {passage.tracks[t] + 1} would have {len(kept)} notes: more than its {lengths[b]} grid steps; ask for fewer or longer notes")
            onset = np.arange(len(kept)) * lengths[b] // len(kept)  # only their order counts
            draft.cells[b][t] = np.column_stack([onset, np.ones(len(kept), dtype=np.int64), cells[b][kept, 2:]])
    return draft


def roomy_grid(tokenizer: CellTokenizer, draft: Draft) -> int:
    """Ticks of the coarsest of quavers, semiquavers and finer with half as many places again as any bar of the region has notes, so that none are crammed before a barline."""
    passage, tpq = draft.passage, tokenizer.ticks_per_quarter
    needs = [(bar_ticks(*passage.plan.metres[b], tpq), len(draft.cells[b][t])) for b, t in np.argwhere(passage.region).tolist()]
    return next(grid for grid in (tpq // 2, tpq // 4, tpq // 6, 1) if all(length // grid >= 1.5 * notes for length, notes in needs) or grid == 1)


def articulated(tokenizer: CellTokenizer, draft: Draft, note_length: float) -> Draft:
    """Notes of the region held longer (towards the next onset of their track) or shorter, until their mean length is in the class of `note_length`, quarters."""
    low, high = (edge * tokenizer.ticks_per_quarter for edge in class_range(BY_NAME["note_length"], note_length))
    passage = draft.passage
    for t in np.flatnonzero(passage.region.any(axis=0)):
        rows = [int(b) for b in np.flatnonzero(passage.region[:, t]) if len(draft.cells[b][t])]
        if not rows:
            continue
        durations = np.concatenate([draft.cells[b][t][:, 1] for b in rows])
        room = np.concatenate([_room(draft.cells[b][t][:, 0], bar_ticks(*passage.plan.metres[b], tokenizer.ticks_per_quarter)) for b in rows])
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
    return np.array([min([int(other) for other in onsets if other > onset] or [length]) - int(onset) for onset in onsets])


def _towards(durations: np.ndarray, most: np.ndarray, low: float, high: float) -> np.ndarray:
    """Durations changed as little as brings their mean into [low, high), between 1 and `most`."""
    held = durations.copy()
    while held.mean() < low and (held < most).any():
        held[int(np.argmax(np.where(held < most, most - held, -1)))] += 1
    while held.mean() >= high and (held > 1).any():
        held[int(np.argmax(held))] -= 1
    return held
