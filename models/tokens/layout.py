"""Cells in sequences: how a window of bars, of which some cells are missing, is laid out for the network.

    Start .. controls ..                                  what is asked
    Ahead  Bar  Program notes  Program MASK  Bar MASK ..   from the first bar with a missing cell on: what is
    kept, and MASK for what is not
    Fill   Bar  Program notes  Program notes ..            the bars before, then the bars to fill; kept cells
    are given again in their place

Where nothing is kept from the first missing cell on (composing, continuing) there is no Ahead and no Fill:
the sequence is the piece
itself. So the network always writes left to right in the one format it is pretrained on, and what lies ahead
is read before
(the suffix-prefix-middle order of Bavarian et al. 2022, here for rectangles of cells).
docs/decisions/0006-fill-format.md has the
comparison with writing the missing cells alone after the context.
"""

from dataclasses import dataclass

import numpy as np

from models.tokens.labels import KIND_OF, Labels
from models.tokens.tokenizer import CellTokenizer

AHEAD_SHARE, LEFT_SHARE = (
    0.3,
    0.25,
)  # of the context: most that is shown of the bars ahead and of the bars before
CellAsks = dict[tuple[int, int], tuple[tuple[str, int], ...]]  # (bar, track) -> (control, class) pairs


@dataclass
class Grid:
    """Tokens of a score cell by cell. `cells[b][k]`: note tokens of bar b, track k (no Program); None where
    missing."""

    bars: list[int]  # Bar token of each bar
    programs: list[int]  # Program token of each track
    cells: list[list[np.ndarray | None]]

    def size(self, bar: int) -> int:
        """Tokens of a bar; a missing cell counts as MASK."""
        return 1 + len(self.programs) + sum(1 if cell is None else len(cell) for cell in self.cells[bar])

    def written(self, first: int, last: int) -> list[int]:
        """Bars [first, last) in full. No cell of them may be missing."""
        ids: list[int] = []
        for b in range(first, last):
            ids.append(self.bars[b])
            for program, cell in zip(self.programs, self.cells[b], strict=True):
                assert cell is not None
                ids.append(program)
                ids += cell.tolist()
        return ids

    def masked(self, first: int, last: int, mask_id: int) -> list[int]:
        """Bars [first, last) with MASK for each missing cell, and one MASK for a bar of nothing else."""
        ids: list[int] = []
        for b in range(first, last):
            ids.append(self.bars[b])
            if all(cell is None for cell in self.cells[b]):
                ids.append(mask_id)
                continue
            for program, cell in zip(self.programs, self.cells[b], strict=True):
                ids.append(program)
                ids += [mask_id] if cell is None else cell.tolist()
        return ids

    def with_missing(self, missing: np.ndarray) -> "Grid":
        """A copy in which the cells of `missing`, bool (bars, tracks), are None."""
        cells = [
            [None if missing[b, k] else cell for k, cell in enumerate(row)]
            for b, row in enumerate(self.cells)
        ]
        return Grid(self.bars, self.programs, cells)


def grid_of(
    tokenizer: CellTokenizer,
    body: np.ndarray,
    bar_starts: np.ndarray,
    first: int = 0,
    last: int | None = None,
) -> Grid:
    """The grid of bars [first, last) of an encoded piece."""
    last = len(bar_starts) if last is None else last
    stop = int(bar_starts[last]) if last < len(bar_starts) else len(body) - 1  # without EOS
    start = int(bar_starts[first])
    part = np.asarray(body[start:stop])
    block = tokenizer.first_id["Program"]
    is_program = (part >= block) & (part < block + tokenizer.block_size["Program"])
    bars = np.append(bar_starts[first:last], stop) - start
    at = np.flatnonzero(is_program).reshape(last - first, -1)
    ends = np.concatenate([at[:, 1:], bars[1:, None]], axis=1)
    cells: list[list[np.ndarray | None]] = [
        [part[a + 1 : e] for a, e in zip(row, end, strict=True)]
        for row, end in zip(at.tolist(), ends.tolist(), strict=True)
    ]
    return Grid(part[bars[:-1]].tolist(), part[at[0]].tolist(), cells)


def ahead_end(grid: Grid, bar: int, budget: int) -> int:
    """Bars [bar, end) are shown ahead within `budget` tokens; `bar` itself where nothing is kept from it
    on."""
    kept = [b for b in range(bar, len(grid.cells)) if any(cell is not None for cell in grid.cells[b])]
    if not kept:
        return bar
    end, used = bar, 0
    while end <= kept[-1]:
        used += grid.size(end)
        if used > budget and end > bar:
            break
        end += 1
    return end


def left_start(grid: Grid, bar: int, budget: int) -> int:
    """Bars [start, bar) are shown before, within `budget` tokens (but always the last)."""
    start, used = bar, 0
    while start > 0:
        used += grid.size(start - 1)
        if used > budget and start < bar:
            break
        start -= 1
    return start


def prompt(
    tokenizer: CellTokenizer, grid: Grid, bar: int, labels: Labels, context: int
) -> tuple[list[int], int]:
    """What the network reads before it fills from `bar` on, and the first bar that is shown whole before it:
    all cells of earlier bars are there, later ones may be missing.

    `labels.bars` counts the bars of the whole score (0: not told); the token tells those from the first bar
    shown on.
    """
    end = ahead_end(grid, bar, int(AHEAD_SHARE * context))
    start = left_start(grid, bar, int((LEFT_SHARE if end > bar else 0.5) * context))
    ids = begin(tokenizer, labels, start)
    if end > bar:
        most = min(int(2 * AHEAD_SHARE * context), int(0.8 * context) - len(ids) - 2)
        ahead = grid.masked(bar, end, tokenizer.mask_id)[
            : max(most, 0)
        ]  # one bar of many full tracks may be too much
        ids += [tokenizer.id_of("Part", "Ahead"), *ahead, tokenizer.id_of("Part", "Fill")]
    tail = grid.written(start, bar)
    cut = max(len(tail) - max(int(0.8 * context) - len(ids), 0), 0)  # the newest stay
    return ids + tail[cut:], start + sum(tokenizer.is_bar(token) for token in tail[:cut])


def begin(tokenizer: CellTokenizer, labels: Labels, start: int) -> list[int]:
    """Control tokens of a sequence that starts at bar `start` of a score of `labels.bars` bars."""
    left = labels.bars - start if labels.bars else 0
    told = left if 0 < left <= tokenizer.max_bars_control else 0
    return tokenizer.prefix(
        Labels(
            labels.style,
            labels.rhythm,
            labels.key,
            told,
            labels.excerpt or start > 0,
            labels.tempo,
            labels.tracks,
        )
    )


def ask_tokens(tokenizer: CellTokenizer, asks: tuple[tuple[str, int], ...]) -> list[int]:
    return [tokenizer.id_of(KIND_OF[name], index) for name, index in asks]


def filled(
    tokenizer: CellTokenizer, grid: Grid, missing: np.ndarray, first: int, last: int, asks: CellAsks
) -> tuple[list[int], list[bool]]:
    """Bars [first, last) as they are to be written, and which of these tokens are the network's own: (ids,
    scored).

    Its own are the notes of a missing cell and the token after them, which says that the cell ends; kept
    cells are given.
    """
    ids: list[int] = []
    scored: list[bool] = []
    open_before = False
    for b in range(first, last):
        ids.append(grid.bars[b])
        scored.append(open_before)
        open_before = False
        for k, program in enumerate(grid.programs):
            cell = grid.cells[b][k]
            assert cell is not None
            told = ask_tokens(tokenizer, asks.get((b, k), ()))
            ids += [program, *told, *cell.tolist()]
            mine = bool(missing[b, k])
            scored += [open_before, *([False] * len(told)), *([mine] * len(cell))]
            open_before = mine
    ids.append(tokenizer.eos_id)
    scored.append(open_before)
    return ids, scored
