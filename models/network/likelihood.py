"""Likelihood of music: nats of every token of a piece, for any length, with the sliding windows a network of
fixed context needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.network.reading import Reads
from models.tokens.asking import told_of
from models.tokens.labels import Labels
from models.tokens.place import WIDTH, Told
from models.tokens.place_cells import PROGRAM
from models.tokens.place_reader import PlaceReader
from models.tokens.tokenizer import CellTokenizer


@dataclass(frozen=True)
class Window:
    """Part of a piece as the network sees it: tokens with a prefix and their places (n, WIDTH); those from
    `first` on are scored into the piece at `target`."""

    piece: int
    placed: np.ndarray
    first: int
    target: int


def windows_of(
    piece: int,
    body: np.ndarray,
    bar_starts: np.ndarray,
    labels: Labels,
    tokenizer: CellTokenizer,
    places: PlaceReader,
    context: int,
) -> list[Window]:
    """Cut one piece: each window after the first starts at a bar about half a context before the first token
    it scores."""
    windows: list[Window] = []
    scored, start, B = 0, 0, len(bar_starts)
    first_bar = body[: bar_starts[1] if B > 1 else len(body)].astype(np.int64)
    tracks = int((places.kinds.kind[first_bar] == PROGRAM).sum())
    while scored < len(body):
        first = int(np.searchsorted(bar_starts, start))
        left = B - first
        asked = left if labels.bars and left <= tokenizer.max_bars_control else 0
        prefix = tokenizer.prefix(replace(labels, bars=asked, excerpt=start > 0))
        stop = min(len(body), start + context + 1 - len(prefix))
        ids = np.concatenate([np.array(prefix), body[start:stop]]).astype(np.int64)
        told = told_of(Told(tracks, left if labels.bars else 0, first), labels)
        windows.append(Window(piece, places.read(ids, told), len(prefix) + scored - start, scored))
        scored = stop
        bar = int(np.searchsorted(bar_starts, scored - context // 2, side="left"))
        start = int(bar_starts[min(bar, len(bar_starts) - 1)])
        if start >= scored or stop - start >= context + 1 - len(prefix):
            start = scored - context // 2  # a bar longer than half a context: cut inside it
    return windows


def piece_nats(
    network: Reads,
    tokenizer: CellTokenizer,
    pieces: Sequence[tuple[np.ndarray, np.ndarray]],
    labels: Sequence[Labels] | None = None,
    batch_tokens: int = 16384,
) -> list[np.ndarray]:
    """Nats of each token of each (body, bar_starts), float32 (n,). Control tokens are given, never scored;
    None: no controls at all."""
    context = network.config.context
    jobs: list[Window] = []
    places = PlaceReader(tokenizer)
    for i, (body, bar_starts) in enumerate(pieces):
        asked = labels[i] if labels else Labels()
        jobs += windows_of(i, np.asarray(body), bar_starts, asked, tokenizer, places, context)
    nats = [np.zeros(len(body), dtype=np.float32) for body, _ in pieces]
    jobs.sort(key=lambda window: len(window.placed))
    while jobs:
        count = max(batch_tokens // len(jobs[-1].placed), 1)
        batch, jobs = jobs[-count:], jobs[:-count]
        width = max(len(window.placed) for window in batch)
        rows = np.zeros((len(batch), width, WIDTH), dtype=np.int32)
        for row, window in enumerate(batch):
            rows[row, : len(window.placed)] = window.placed
        losses = network.nats(rows)
        for row, window in enumerate(batch):
            scored = losses[row, window.first - 1 : len(window.placed) - 1]
            nats[window.piece][window.target : window.target + len(scored)] = scored
    return nats


def nats_per_note(nats: Sequence[np.ndarray], notes: Sequence[int]) -> float:
    """Total nats over total notes."""
    return float(sum(float(n.sum()) for n in nats) / max(sum(notes), 1))


def bar_surprise(nats: np.ndarray, bar_starts: np.ndarray) -> np.ndarray:
    """Nats of each bar, float64 (bars,); EOS counts with the last."""
    return np.add.reduceat(nats.astype(np.float64), bar_starts)
