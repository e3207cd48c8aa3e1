"""Control obedience: how often what was asked is what came, beside how often it would be if the asked values
were dealt out at random."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from symusic import Score

from models.fill.request import FillRequest
from models.fill.sampling import key_obeyed
from music.score.cells import CELL_CONTROLS, PER_BAR, cell_statistics, control_classes
from music.score.form import bar_table

SILENT = -9  # the class of what is not there: obeys nothing


def beside_chance(asked: Sequence[Any], obeys: Callable[[int, Any], bool]) -> dict[str, float]:
    """`obeys(i, value)`: answer i has that value. Chance: the mean over all asked values, as if each had been
    dealt to any answer."""
    kept = float(np.mean([obeys(i, value) for i, value in enumerate(asked)]))
    values, counts = np.unique(np.array(asked, dtype=object).astype(str), return_counts=True)
    by_name = {str(value): value for value in asked}
    chance = sum(
        count / len(asked) * np.mean([obeys(i, by_name[value]) for i in range(len(asked))])
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
    )
    return {"obeyed": round(kept, 4), "chance": round(float(chance), 4), "asked": len(asked)}


def label_obedience(
    answers: Sequence[tuple[FillRequest, Score]], judges: dict[str, Callable[[list[Score]], list[str]]]
) -> dict[str, dict[str, float]]:
    """Key by Krumhansl's estimate; style and rhythm by `judges`, classifiers trained on the train split."""
    table: dict[str, dict[str, float]] = {}
    keyed = [(request.labels.key, score) for request, score in answers if request.labels.key]
    if keyed:
        table["key"] = beside_chance([key for key, _ in keyed], lambda i, key: key_obeyed(keyed[i][1], key))
    for kind, judge in judges.items():
        mine = [
            (getattr(request.labels, kind), score)
            for request, score in answers
            if getattr(request.labels, kind)
        ]
        if len({label for label, _ in mine}) > 1:
            found = judge([score for _, score in mine])
            table[kind] = beside_chance(
                [label for label, _ in mine],
                lambda i, label, found=found: found[i] == label,  # type: ignore[misc]
            )
    return table


def class_obedience(
    answers: Sequence[tuple[FillRequest, Score]], ticks_per_quarter: int
) -> dict[str, dict[str, float]]:
    """Class of each control by track, as asked in `labels.tracks`; `within_one`: that class or a
    neighbour."""
    asked: dict[str, list[int]] = {control.name: [] for control in CELL_CONTROLS}
    found: dict[str, list[int]] = {control.name: [] for control in CELL_CONTROLS}
    for request, score in answers:
        statistics, length = cell_statistics(score), int(bar_table(score)[:, 1].sum())
        for k, track in enumerate(request.labels.tracks):
            classes = control_classes(statistics[:, k], length, ticks_per_quarter)
            for name, index in track.classes:
                asked[name].append(index)
                found[name].append(classes.get(name, 0 if name == "density" else SILENT))
    return {name: _classes(asked[name], found[name]) for name in asked if asked[name]}


def cell_obedience(
    answers: Sequence[tuple[FillRequest, Score]], ticks_per_quarter: int
) -> dict[str, dict[str, float]]:
    """The same for what was asked of single cells."""
    asked: dict[str, list[int]] = {name: [] for name in PER_BAR}
    found: dict[str, list[int]] = {name: [] for name in PER_BAR}
    for request, score in answers:
        statistics, bars = cell_statistics(score), bar_table(score)
        for (b, k), wanted in request.cells.items():
            classes = control_classes(statistics[b : b + 1, k], int(bars[b, 1]), ticks_per_quarter)
            for name, index in wanted:
                asked[name].append(index)
                found[name].append(classes.get(name, 0))
    return {f"{name} of a bar": _classes(asked[name], found[name]) for name in asked if asked[name]}


def _classes(asked: list[int], found: list[int]) -> dict[str, float]:
    near = float(np.mean(np.abs(np.array(asked) - np.array(found)) <= 1))
    return beside_chance(asked, lambda i, index: found[i] == index) | {"within_one": round(near, 4)}
