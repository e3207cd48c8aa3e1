"""Where each column of a place stands in a row, and which entry is its first: for one token at a time."""

from models.tokens.place import COLUMN, COPIES, FIRST, OFFSETS
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
