"""Where each column of a place stands in a row, and which entry is its first: for one token at a time."""

from bisect import bisect_right
from collections.abc import Sequence

from models.tokens.place import (
    BARS,
    COLUMN,
    COPIES,
    FIRST,
    NONE,
    OFFSETS,
    PHRASE,
    SECTIONS,
    SIZES,
    TICKS,
    WIDTH,
    Told,
)
from music.score.cells import CELL_CONTROLS

AT = {name: 1 + COPIES + i for name, i in COLUMN.items()}  # of a row
BASE = {name: int(FIRST[i]) for name, i in COLUMN.items()}
ROLES = [
    (o, *(place[f"{name}{o:+d}"] for name in ("pitch", "motion", "parallel") for place in (AT, BASE)))
    for o in OFFSETS
]
ASKS = [(AT[f"ask_{c.name}"], BASE[f"ask_{c.name}"], c.classes + 1, c.edges) for c in CELL_CONTROLS]
SHARE = [BASE[f"share{pc}"] for pc in range(12)]
CHORD_WIDTH = AT["chord_ends"] + 1 - AT["chord_root"]
FLAGS: dict[str, list[tuple[int, ...]]] = {
    name: [tuple(BASE[f"{name}{pc}"] if bits >> pc & 1 else 0 for pc in range(12)) for bits in range(4096)]
    for name in ("sounds", "own")
}


def bar_row(told: Told, bar: int) -> tuple[list[int], int]:
    """What is told of every token of a bar, counted from the first shown; and which end of the piece or of a
    section it is, as the column `closing` has it."""
    row = [0] * WIDTH
    if told.bars_left:
        row[AT["bars_left"]] = BASE["bars_left"] + min(max(told.bars_left - bar, 0), BARS)
    if told.first_bar >= 0:
        row[AT["bar"]] = BASE["bar"] + (told.first_bar + bar) % PHRASE
    if told.key is not None:
        row[AT["tonic"]], row[AT["mode"]] = BASE["tonic"] + told.key[0], BASE["mode"] + told.key[1]
    if bar < len(told.sections) and told.sections[bar][0] >= 0:
        letter, since, left = told.sections[bar]
        row[AT["section"]] = BASE["section"] + letter % SECTIONS
        row[AT["section_bar"]] = BASE["section_bar"] + min(since, SIZES["section_bar"] - 1)
        row[AT["section_left"]] = BASE["section_left"] + min(left, SIZES["section_left"] - 1)
    bars_left = told.bars_left - bar if told.bars_left else NONE
    ends = bar < len(told.sections) and told.sections[bar][2] == 0
    return row, 0 if bars_left == 1 else 1 if ends else 2 if bars_left == 2 else 3


def write_asks(
    row: list[int], asked: Sequence[int], elapsed: int, notes: int, so_far: tuple[float, ...]
) -> None:
    """What is asked of a track beside what `notes` of it in `elapsed` ticks are so far."""
    for i, index in enumerate(asked):
        if index >= 0:
            at, base, width, edges = ASKS[i]
            known = elapsed > 0 if not i else notes > 0
            row[at] = base + index * width + (1 + bisect_right(edges, so_far[i]) if known else 0)


def write_melody(row: list[int], pitch: int, ticks: int, after: int) -> None:
    """How the melody that is kept ahead goes on; NONE: no note."""
    row[AT["melody_next"]] = BASE["melody_next"] + pitch if pitch >= 0 else 0
    row[AT["melody_next_in"]] = BASE["melody_next_in"] + min(ticks, TICKS) if pitch >= 0 else 0
    row[AT["melody_after"]] = BASE["melody_after"] + after if after >= 0 else 0
