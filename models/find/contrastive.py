"""Learning the head of the encoder: two views of one piece close, all others far (InfoNCE, van den Oord et
al. 2018; SimCLR, Chen et al. 2020)."""

from dataclasses import dataclass

import numpy as np
import torch
from symusic import Score
from torch import Tensor, nn
from torch.nn import functional as F

from models.find.embedding import Encoder
from music.score.form import bar_table, build, note_array
from music.score.passages import FEWEST_NOTES, excerpt

THINNED, MOST_SHIFT = 0.15, 2  # share of notes a view may lose; semitones by which its median may be mistaken


class Head(nn.Module):
    """What `Encoder.project` computes, to be trained. D: width of the blocks, W: of the inner layer, E: of
    the vectors."""

    def __init__(self, width: int, inner: int, out: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, inner)
        self.second = nn.Linear(inner, out, bias=False)
        self.straight = nn.Linear(width, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.second(F.gelu(self.first(x), approximate="tanh")) + self.straight(x), dim=-1)


@dataclass(frozen=True)
class Views:
    """Blocks of views (V, D), the piece and the duplicate group of each (V,), and whether a view was altered
    (V,)."""

    blocks: np.ndarray
    piece: np.ndarray
    group: np.ndarray
    altered: np.ndarray
    source: np.ndarray  # of an altered view: the row of the passage it was made from; of a passage: its own


def altered(
    random: np.random.Generator, score: Score, bars: tuple[int, int]
) -> "Score | None":  # quoted: symusic.Score is a factory
    """Another view of a passage: shifted by a bar or two, thinned, twice or half as fast, in another key;
    None where too little is left."""
    last = len(bar_table(score))
    shift = int(random.integers(-2, 3))
    first = min(max(bars[0] + shift, 0), max(last - 4, 0))
    view = excerpt(score, (first, min(max(bars[1] + shift, first + 1), last)))
    stretch = random.random() < 0.15
    moved = int(random.integers(-MOST_SHIFT, MOST_SHIFT + 1))
    tracks = []
    for track in view.tracks:
        notes = note_array(track)
        notes = notes[random.random(len(notes)) >= random.choice([0.0, THINNED / 2, THINNED])]
        if not track.is_drum:
            notes[:, 2] = np.clip(notes[:, 2] + moved, 0, 127)
        tracks.append((track.program, track.is_drum, notes))
    if sum(len(notes) for *_, notes in tracks) < FEWEST_NOTES:
        return None
    first_metre = (int(view.time_signatures[0].numerator), int(view.time_signatures[0].denominator))
    if stretch and first_metre[1] in (4, 8):
        tracks = [(p, d, np.column_stack([notes[:, :2] * 2, notes[:, 2]])) for p, d, notes in tracks]
        return build(tracks, [(0, first_metre[0], first_metre[1] // 2)], score.tpq, 80)
    return build(
        tracks, [(ts.time, ts.numerator, ts.denominator) for ts in view.time_signatures], score.tpq, 80
    )


def train_head(
    views: Views,
    idf: np.ndarray,
    *,
    inner: int,
    width: int,
    steps: int,
    batch: int,
    temperature: float,
    rate: float,
    seed: int,
) -> tuple[Encoder, list[float]]:
    """Fit a head; the encoder with it, and the loss of every 50 steps.

    An anchor is a passage; its partner is a view altered from it, another passage of its piece, or one of a
    near-duplicate. What shares the duplicate group of an anchor is never held against it.
    """
    random, _ = np.random.default_rng(seed), torch.manual_seed(seed)
    mean, scale = views.blocks.mean(axis=0), views.blocks.std(axis=0) + 1e-3
    x = torch.from_numpy((views.blocks - mean) / scale).float()
    head = Head(x.shape[1], inner, width)
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    partners = _partners(views)
    anchors = np.array([i for i in range(len(x)) if not views.altered[i] and len(partners[i])])
    group = torch.from_numpy(views.group)
    losses, recent = [], list[float]()
    for step in range(steps):
        a = random.choice(anchors, min(batch, len(anchors)), replace=False)
        b = np.array([partners[i][int(random.integers(len(partners[i])))] for i in a])
        left, right = head(x[a]), head(x[b])
        scores = left @ right.T / temperature  # (B, B)
        same = group[a][:, None] == group[b][None, :]
        scores = scores.masked_fill(same & ~torch.eye(len(a), dtype=torch.bool), -torch.inf)
        wanted = torch.arange(len(a))
        loss = (F.cross_entropy(scores, wanted) + F.cross_entropy(scores.T, wanted)) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        recent.append(float(loss.detach()))
        if step % 50 == 49:
            losses.append(float(np.mean(recent)))
            recent.clear()
    weights = {name: value.detach().numpy() for name, value in head.state_dict().items()}
    return Encoder(
        idf,
        mean,
        scale,
        weights["first.weight"],
        weights["first.bias"],
        weights["second.weight"],
        weights["straight.weight"],
    ), losses


def _partners(views: Views) -> list[np.ndarray]:
    """Rows that may be drawn as the partner of each view; what was altered from it counts as much as all
    other passages together."""
    by_group: dict[int, list[int]] = {}
    of_source: dict[int, list[int]] = {}
    for row, (group, source, changed) in enumerate(
        zip(views.group.tolist(), views.source.tolist(), views.altered.tolist(), strict=True)
    ):
        by_group.setdefault(group, []).append(row)
        if changed:
            of_source.setdefault(source, []).append(row)
    found = []
    for row, group in enumerate(views.group.tolist()):
        others = [other for other in by_group[group] if other != row and not views.altered[other]]
        mine = of_source.get(row, [])
        found.append(np.array(others + mine * max(len(others) // max(len(mine), 1), 1), dtype=np.int64))
    return found
