"""Fill tasks: how well a network foresees what people wrote in a region of a real piece, in nats per note of
the region."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.judge.ngram import NgramModel
from models.network.reading import Reads
from models.tokens.labels import Labels
from models.tokens.layout import AHEAD_SHARE, LEFT_SHARE, Grid, ahead_end, begin, filled, grid_of, left_start
from models.tokens.place import WIDTH, Told
from models.tokens.place_reader import PlaceReader
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer

TASKS = (
    "continue 8 bars",
    "infill 2 bars",
    "infill 4 bars",
    "infill 8 bars",
    "harmonise",
    "one voice of several",
)


@dataclass(frozen=True)
class Case:
    """A region of a piece: `missing` (bars, tracks) of `grid`, bars [first, last); `offset`: bars of the
    piece before the grid."""

    grid: Grid
    missing: np.ndarray
    first: int
    last: int
    offset: int
    notes: int


def cases_of(
    shard: Shard, tokenizer: CellTokenizer, task: str, *, count: int, seed: int, context: int
) -> list[Case]:
    """Up to `count` regions for a task, at most three a piece, from pieces that are long enough and (for
    harmonise, one voice) have several tracks."""
    random = np.random.default_rng(seed)
    cases: list[Case] = []
    for i in np.concatenate([random.permutation(len(shard)) for _ in range(3)]).tolist():
        if len(cases) == count:
            break
        starts = shard.bar_starts(i)
        tracks = shard.statistics(i).shape[1]
        several = task in ("harmonise", "one voice of several")
        bars = 4 if several else int(task.split()[1])
        if len(starts) < bars + 8 or (several and tracks < 2):
            continue
        first = (
            len(starts) - bars
            if task.startswith("continue")
            else int(random.integers(4, len(starts) - bars - 3))
        )
        low, high = max(0, first - 32), min(len(starts), first + bars + 32)
        chosen = np.ones(tracks, dtype=bool)
        if several:
            chosen[:] = task == "harmonise"
            chosen[0 if task == "harmonise" else int(random.integers(tracks))] ^= True
        case = _case(
            grid_of(tokenizer, shard.piece(i), starts, low, high),
            shard.statistics(i),
            chosen,
            first,
            bars,
            low,
            several,
        )
        if case.notes and len(sequence(tokenizer, case, context, Labels(), True)[0]) <= context + 1:
            cases.append(case)
    return cases


def _case(
    grid: Grid, statistics: np.ndarray, chosen: np.ndarray, first: int, bars: int, low: int, several: bool
) -> Case:
    missing = np.zeros((len(grid.cells), len(grid.programs)), dtype=bool)
    missing[first - low : len(missing) if several else first - low + bars, chosen] = (
        True  # voices are missing to the end, as when a melody is harmonised
    )
    notes = int(statistics[first : first + bars, chosen, 0].sum())
    return Case(grid, missing, first - low, first - low + bars, low, notes)


def sequence(
    tokenizer: CellTokenizer, case: Case, context: int, labels: Labels, look_ahead: bool
) -> tuple[list[int], list[bool], list[int], Told]:
    """(ids, scored, the same bars alone, what is told): what is read and written for a case; without
    `look_ahead` only what lies before is shown."""
    hidden = case.grid.with_missing(case.missing)
    end = ahead_end(hidden, case.first, int(AHEAD_SHARE * context)) if look_ahead else case.first
    start = left_start(hidden, case.first, int((LEFT_SHARE if look_ahead else 0.5) * context))
    ids = begin(tokenizer, labels, start + case.offset)
    if end > case.first:
        ids += [
            tokenizer.id_of("Part", "Ahead"),
            *hidden.masked(case.first, end, tokenizer.mask_id),
            tokenizer.id_of("Part", "Fill"),
        ]
    left = case.grid.written(start, case.first)
    own, mine = filled(tokenizer, case.grid, case.missing, case.first, case.last, {})
    if case.last < len(case.grid.bars) and (end == case.first or case.missing[case.last].any()):
        own[-1] = case.grid.bars[
            case.last
        ]  # the music goes on: unless what lies ahead says that the region ends here, the next bar begins
    told = Told(len(case.grid.programs), 0, start + case.offset, case.first - start)
    return ids + left + own, [False] * (len(ids) + len(left)) + mine, left + own, told


def network_nats(
    network: Reads,
    tokenizer: CellTokenizer,
    cases: Sequence[Case],
    *,
    look_ahead: bool = True,
    batch_size: int = 16,
) -> np.ndarray:
    """Nats of what is missing, by case, float64 (n,)."""
    nats = np.zeros(len(cases))
    context, places = network.config.context, PlaceReader(tokenizer)
    rows = [sequence(tokenizer, case, context, Labels(), look_ahead) for case in cases]
    order = sorted(range(len(cases)), key=lambda i: len(rows[i][0]))
    for at in range(0, len(order), batch_size):
        batch = order[at : at + batch_size]
        width = min(max(len(rows[i][0]) for i in batch), context + 1)
        placed = np.zeros((len(batch), width, WIDTH), dtype=np.int32)
        scored = np.zeros((len(batch), width), dtype=bool)
        for row, i in enumerate(batch):
            ids, mine, _, told = rows[i]
            length = min(len(ids), width)
            placed[row, :length] = places.read(np.array(ids), told)[:length]
            scored[row, :length] = mine[:length]
        losses = network.nats(placed)
        nats[batch] = (losses.astype(np.float64) * scored[:, 1:]).sum(axis=1)
    return nats


def ngram_nats(
    ngram: NgramModel, tokenizer: CellTokenizer, cases: Sequence[Case], context: int
) -> np.ndarray:
    """The same by the n-gram, which sees the bars before and, within the region, the kept cells written
    before each missing one."""
    nats = []
    for case in cases:
        ids, scored, music, _ = sequence(tokenizer, case, context, Labels(), look_ahead=False)
        nats.append(
            float(ngram.nats(np.array(music, dtype=np.uint16))[scored[len(ids) - len(music) :]].sum())
        )
    return np.array(nats)


def task_table(
    network: Reads, ngram: NgramModel, tokenizer: CellTokenizer, shard: Shard, *, count: int, seed: int
) -> dict[str, dict[str, float]]:
    """Nats per note of every task: the network, the same not shown what lies ahead, the n-gram, and how many
    regions and notes."""
    table: dict[str, dict[str, float]] = {}
    for task in TASKS:
        cases = cases_of(shard, tokenizer, task, count=count, seed=seed, context=network.config.context)
        notes = sum(case.notes for case in cases)
        if not notes:
            continue
        sums = {
            "model": network_nats(network, tokenizer, cases).sum(),
            "model_blind": network_nats(network, tokenizer, cases, look_ahead=False).sum(),
            "ngram": ngram_nats(ngram, tokenizer, cases, network.config.context).sum(),
        }
        table[task] = {name: round(float(value) / notes, 4) for name, value in sums.items()} | {
            "regions": len(cases),
            "notes": notes,
        }
    return table
