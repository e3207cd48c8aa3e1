"""A network over sixteenth grids: the repository's Llama layers over steps, a small head over the voices of a
step.

B: pieces, T: steps, D: width, V: vocabulary, K: numbers in a table of the head, v: voices decided in the
order of ORDER.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.jsb_grid import DECIDED, KINDS, LOWEST, MATCHES, ORDER, REST, START, VOCABULARY, Piece
from models.network.config import NetworkConfig
from models.network.decoder import Layer, rotary_table

REACH = 13  # semitones; larger intervals share one entry
NEAR = 2 * REACH + 2  # entries of an interval table: -REACH .. REACH, and none
AGES, LENGTHS, CONTEXT = 20, 14, 640
NONE = -2
WIDE = 64  # entries of a table of intervals between voices
PITCH_SIZES = [VOCABULARY + 2, 15]


@dataclass(frozen=True)
class Shape:
    width: int = 192
    layers: int = 3
    heads: int = 4
    feed_forward: int = 512
    head_width: int = 192
    head_feed_forward: int = 384
    head_blocks: int = 1
    dropout: float = 0.3
    head_dropout: float = 0.3
    embed_dropout: float = 0.1
    column_dropout: float = 0.15


@dataclass
class Batch:
    """Tokens and features of pieces padded at the right; pitches are tokens, NONE where there is none."""

    target: Tensor  # (B, T, 4)
    present: Tensor  # (B, T, 4): tokens of the step before, START at the first step
    earlier: Tensor  # (B, T, 4)
    age: Tensor  # (B, T, 4)
    step: Tensor  # (T,)
    match: Tensor  # (B, T, MATCHES, 4)
    match_length: Tensor  # (B, T, MATCHES), classes 0 to LENGTHS - 1
    scale: Tensor  # (B, T, 2, 12) by token % 12
    shift: Tensor  # (B,): semitones added, -6 to 5
    counted: Tensor  # (B, T, 4) bool: false at padding and in voices that are not learned


def tokens(pitch: np.ndarray, shift: int) -> np.ndarray:
    """Pitches to tokens, transposed; -1 to REST, -2 to NONE."""
    return np.where(pitch >= 0, pitch + shift - LOWEST + 1, np.where(pitch == -1, REST, NONE))


def collate(pieces: list[Piece], shifts: list[int]) -> Batch:
    """A batch; shifts in semitones."""
    B, T = len(pieces), max(len(piece.grid) for piece in pieces)
    target, age = np.zeros((B, T, 4), dtype=np.int64), np.zeros((B, T, 4), dtype=np.int64)
    present, earlier = np.full((B, T, 4), START), np.full((B, T, 4), NONE)
    match, length, counted = (
        np.full((B, T, MATCHES, 4), NONE),
        np.zeros((B, T, MATCHES), dtype=np.int64),
        np.zeros((B, T, 4), dtype=bool),
    )
    scale = np.zeros((B, T, 2, 12), dtype=np.float32)
    for b, (piece, shift) in enumerate(zip(pieces, shifts, strict=True)):
        n = len(piece.grid)
        target[b, :n] = tokens(piece.grid, shift)
        present[b, 1:n] = target[b, : n - 1]
        earlier[b, :n], age[b, :n] = tokens(piece.earlier, shift), piece.age
        scale[b, :n] = np.roll(piece.scale, shift + 1 - LOWEST, axis=-1)
        match[b, :n] = tokens(piece.match, shift)
        length[b, :n], counted[b, :n, : piece.learned] = length_class(piece.match_length), True
    t = torch.from_numpy
    return Batch(
        t(target),
        t(present),
        t(earlier),
        t(age),
        torch.arange(T),
        t(match),
        t(length),
        t(scale),
        torch.tensor(shifts),
        t(counted),
    )


def length_class(steps: np.ndarray) -> np.ndarray:
    """Match length in steps to a class: 0 none, then 1 to 3 steps, then half octaves from 4."""
    return np.where(
        steps > 0, np.clip(np.floor(2 * np.log2(np.maximum(steps, 2) / 4)) + 3, 1, LENGTHS - 1), 0
    ).astype(np.int64)


def interval(a: Tensor, b: Tensor) -> Tensor:
    """Entry of an interval table for a - b, in tokens; the last entry where either is no pitch."""
    pitched = (a > REST) & (a < START) & (b > REST) & (b < START)
    return torch.where(pitched, (a - b).clamp(-REACH, REACH) + REACH, NEAR - 1)


class Bag(nn.Module):
    """Sum of one row from each of several tables, looked up as one."""

    def __init__(self, sizes: Sequence[int], width: int, std: float, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout  # share of rows left out of each sum
        self.sizes = tuple(sizes)
        self.embed = nn.Parameter(torch.randn(sum(sizes), width) * std)
        self.offsets: Tensor
        self.register_buffer("offsets", torch.tensor([0, *sizes[:-1]]).cumsum(0), persistent=False)

    def forward(self, columns: list[Tensor]) -> Tensor:
        """Indices (B, T), one for each table, to (B, T, D)."""
        index = torch.stack(columns, dim=-1) + self.offsets
        flat = index.flatten(0, -2)
        weight = F.dropout(torch.ones(flat.shape), self.dropout, self.training)
        return F.embedding_bag(flat, self.embed, mode="sum", per_sample_weights=weight).view(
            *index.shape[:-1], -1
        )


def pitch_columns(token: Tensor) -> list[Tensor]:
    """Indices of a token (NONE: START + 1) and of its pitch class, for tables of PITCH_SIZES."""
    token = torch.where(token == NONE, START + 1, token)
    pitched = (token > REST) & (token < START)
    return [token, torch.where(pitched, token % 12, 12 + (token >= START).long() + (token > START).long())]


def shown(place: int) -> list[int]:
    """Matches that a voice at a place of ORDER is shown."""
    return [k for k in range(MATCHES) if DECIDED[k % KINDS] <= place]


def loud(scale: Tensor) -> Tensor:
    """Shares of pitch classes (.., 2, 12) on a logarithmic scale, (.., 24), 0 to about 1."""
    return ((scale + 0.003).log() / 6 + 1).flatten(-2)


def gap_column(high: Tensor, low: Tensor) -> Tensor:
    """Entry of a table of WIDE intervals, -13 to 49 semitones; the last where either is no pitch."""
    pitched = (high > REST) & (high < START) & (low > REST) & (low < START)
    return torch.where(pitched, (high - low).clamp(-13, 49) + 13, WIDE - 1)


class StepEmbedding(nn.Module):
    """What is known before a step, to (B, T, D)."""

    PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    CYCLES = (4, 12, 16, 64)  # steps: a beat, bars of three and four quarters, four bars

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        sizes = [*PITCH_SIZES * 8, *[AGES, NEAR] * 4, *[WIDE] * len(self.PAIRS), *self.CYCLES, 12]
        self.bag = Bag(sizes, shape.width, 0.2, shape.column_dropout)
        self.dropout = shape.embed_dropout
        self.scale = nn.Linear(24, shape.width, bias=False)
        self.project = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        columns: list[Tensor] = []
        for token in (*batch.present.unbind(-1), *batch.earlier.unbind(-1)):
            columns += pitch_columns(token)
        for v in range(4):
            columns += [
                batch.age[..., v].clamp(max=AGES - 1),
                interval(batch.present[..., v], batch.earlier[..., v]),
            ]
        columns += [gap_column(batch.present[..., a], batch.present[..., b]) for a, b in self.PAIRS]
        columns += [
            (batch.step % cycle).expand(batch.shift.shape + batch.step.shape) for cycle in self.CYCLES
        ]
        columns += [(batch.shift[:, None] + 6).expand(batch.shift.shape + batch.step.shape)]
        return self.project(
            F.dropout(self.bag(columns) + self.scale(loud(batch.scale)).float(), self.dropout, self.training)
        )


class Block(nn.Module):
    """A residual SwiGLU layer."""

    def __init__(self, width: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.gate = nn.Linear(width, feed_forward, bias=False)
        self.up = nn.Linear(width, feed_forward, bias=False)
        self.down = nn.Linear(feed_forward, width, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + F.dropout(self.down(F.silu(self.gate(h)) * self.up(h)), self.dropout, self.training)


class VoiceHead(nn.Module):
    """Logits of each voice given the voices before it in ORDER: an absolute term and terms by interval, so
    that most of it moves with the key."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.head_width
        self.width, self.dropout = width, shape.head_dropout
        self.split = nn.Linear(shape.width, 4 * width)
        decided = [[*PITCH_SIZES, NEAR, WIDE] * place for place in range(4)]
        self.bags = nn.ModuleList(
            Bag([2, *sizes, *[NEAR, LENGTHS * 3] * len(shown(place))], width, 0.1, shape.column_dropout)
            for place, sizes in enumerate(decided)
        )
        self.blocks = nn.ModuleList(
            Block(width, shape.head_feed_forward, shape.head_dropout) for _ in range(shape.head_blocks)
        )
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.scale = nn.Linear(24, width, bias=False)
        self.sizes = (VOCABULARY, 2, 13, NEAR, *(13,) * 6, MATCHES)
        self.embed_out = nn.Linear(width, sum(self.sizes))
        nn.init.zeros_(self.embed_out.weight)
        nn.init.zeros_(self.embed_out.bias)
        pitch = torch.arange(VOCABULARY)
        self.classes: Tensor
        self.register_buffer("classes", torch.where(pitch > REST, pitch % 12, 12), persistent=False)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(B, T, D) to logits (B, T, 4, V), voices in the order of the grid."""
        parts = self.split(hidden).unflatten(-1, (4, self.width))
        logits = [self._voice(parts[:, :, i], batch, i) for i in range(4)]
        return torch.stack([logits[ORDER.index(voice)] for voice in range(4)], dim=2)

    def _voice(self, x: Tensor, batch: Batch, place: int) -> Tensor:
        voice, decided = ORDER[place], list(ORDER[:place])
        own = batch.present[..., voice]  # (B, T)
        columns = [(own == REST).long()]
        for other in decided:
            now = batch.target[..., other]
            columns += [*pitch_columns(now), interval(now, batch.present[..., other]), gap_column(now, own)]
        columns += self._matches(batch, voice, decided)
        turned = (own[..., None] + torch.arange(12)) % 12  # from the voice's own pitch class upwards
        x = (
            x
            + self.bags[place](columns)
            + self.scale(loud(batch.scale.gather(-1, turned[:, :, None].expand(batch.scale.shape))))
        )
        x = F.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        return self._logits(self.embed_out(self.norm(x)).float(), batch, voice, decided)

    def _matches(self, batch: Batch, voice: int, decided: list[int]) -> list[Tensor]:
        agrees = torch.zeros_like(batch.match_length)  # (B, T, MATCHES)
        if decided:  # 1 where the match had the decided voices right, 2 where it had one wrong
            agrees = 2 - (batch.match[..., decided] == batch.target[..., None, decided]).all(dim=-1).long()
        move = interval(batch.match[..., voice], batch.present[..., voice, None])
        length = batch.match_length * 3 + agrees
        return [column for k in shown(len(decided)) for column in (move[..., k], length[..., k])]

    def _logits(self, out: Tensor, batch: Batch, voice: int, decided: list[int]) -> Tensor:
        absolute, scale, classes, near, *harmonic, match = out.split(self.sizes, dim=-1)
        pitch = torch.arange(VOCABULARY)
        own = batch.present[..., voice, None]
        logits = absolute + classes[..., self.classes] + near.gather(-1, interval(pitch, own))  # (B, T, V)
        known = F.pad(loud(batch.scale).unflatten(-1, (2, 12)), (0, 1))[..., self.classes]  # (B, T, 2, V)
        logits = logits + (scale[..., None] * known).sum(2)
        others = [batch.present[..., v, None] for v in range(4) if v != voice] + [
            batch.target[..., v, None] for v in decided
        ]
        for table, other in zip(harmonic, others, strict=False):
            index = torch.where((other > REST) & (other < START) & (pitch > REST), (pitch - other) % 12, 12)
            logits = logits + table.gather(-1, index)
        for k in shown(len(decided)):
            logits = logits + match[..., k, None] * (pitch == batch.match[..., k, voice, None])
        return logits


class GridNetwork(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        config = NetworkConfig(
            VOCABULARY, CONTEXT, shape.width, shape.layers, shape.heads, shape.feed_forward, shape.dropout
        )
        layers = [Layer(config) for _ in range(shape.layers)]
        for layer in layers:
            for module in layer.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)
            for writer in (layer.self_attn.o_proj, layer.mlp.down_proj):
                nn.init.normal_(writer.weight, std=0.02 / (2 * shape.layers) ** 0.5)
            layer.self_attn.dropout = 0.0  # inside attention it takes a slow path
        self.layers = nn.ModuleList(layers)
        self.embedding = StepEmbedding(shape)
        self.norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.head = VoiceHead(shape)
        cos, sin = rotary_table(config)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, T, 4, V)."""
        T = len(batch.step)
        x = self.embedding(batch)
        for layer in self.layers:
            x = layer(x, self.cos[:T], self.sin[:T], None, None, 0)
        return self.head(self.norm(x), batch)

    def losses(self, batch: Batch) -> Tensor:
        """Nats of each slot (B, T, 4); 0 where not counted."""
        logits = self(batch)
        nats = F.cross_entropy(logits.flatten(0, 2), batch.target.flatten(), reduction="none").view(
            batch.target.shape
        )
        return nats * batch.counted
