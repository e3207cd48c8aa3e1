"""Training windows: rows of `context` + 1 tokens packed from pieces and excerpts, transposed and labelled at random.

A row is a pure function of (seed, index), so a resumed run sees exactly the rows an unbroken one would have seen.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.shards import Shard
from models.tokens import CellTokenizer, Labels


@dataclass(frozen=True)
class Augmentation:
    """`transpose`: +- semitones; `unconditioned`: share of sequences without controls, the rest drop each with half of it."""

    transpose: int
    unconditioned: float


class WindowDataset(Dataset[Tensor]):
    """Rows int64 (context + 1,) for `[first, first + count)`."""

    def __init__(self, shard: Shard, tokenizer: CellTokenizer, context: int, augmentation: Augmentation, seed: int, first: int, count: int) -> None:
        self._shard, self._tokenizer, self._context = shard, tokenizer, context
        self._augmentation, self._seed, self._first, self._count = augmentation, seed, first, count
        self._tables = {k: tokenizer.transposition(k) for k in range(-augmentation.transpose, augmentation.transpose + 1)}
        self._cumulative = np.cumsum(shard.lengths)  # pieces are drawn by length: every token is as likely

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        random = np.random.default_rng((self._seed, self._first + index))
        row = np.empty(0, dtype=np.uint16)
        while len(row) < self._context + 1:
            row = np.concatenate([row, self._sequence(random, from_start=len(row) > 0)])
        return torch.from_numpy(row[: self._context + 1].astype(np.int64))

    def _sequence(self, random: np.random.Generator, from_start: bool) -> np.ndarray:
        """A piece, or its part from a random bar on, with a prefix of controls."""
        shard = self._shard
        i = int(np.searchsorted(self._cumulative, random.integers(self._cumulative[-1]), side="right"))
        bars = shard.bar_starts(i)
        bar = 0 if from_start or random.random() < 0.25 else int(random.integers(len(bars)))
        body = shard.piece(i)[bars[bar] :]
        record, limit = shard.records[i], self._augmentation.transpose
        shift = int(random.integers(max(-limit, -record["low"]), min(limit, 127 - record["high"]) + 1))
        prefix = self._tokenizer.prefix(self._drop(random, shard.labels(i), bar, len(bars)))
        return self._tables[shift][np.concatenate([np.array(prefix, dtype=np.uint16), body])]

    def _drop(self, random: np.random.Generator, labels: Labels, bar: int, bars: int) -> Labels:
        share = self._augmentation.unconditioned
        keep = random.random(4) >= share / 2
        if random.random() < share:
            keep[:] = False
        left = bars - bar
        asked = left if keep[3] and left <= self._tokenizer.max_bars_control else 0
        return Labels(labels.style if keep[0] else "", labels.rhythm if keep[1] else "", labels.key if keep[2] else "", asked, excerpt=bar > 0)
