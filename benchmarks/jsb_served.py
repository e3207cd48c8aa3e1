"""JSB Chorales with the architecture that is served: cells with their places, one network, one key.

    python -m benchmarks.jsb_served --steps 700

Metric as in benchmarks/jsb.py: total nats of a grid / (steps * 4). A grid is written as cells (runs of a
pitch are notes, bars of 4/4 from its first step on; which grid it was follows from the tokens), so nats of
all its tokens, barlines and ends of cells too, are an upper bound of those of the grid; how many bars there
are is told, as there. Trained on the split's train pieces alone; the look with the fewest nats on valid is
kept, test is read once.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import report, short_runs
from benchmarks.jsb_grid import load
from models.network.config import sized
from models.network.decoder import Network
from models.network.likelihood import piece_nats
from models.network.optimizer import MuonAdamW
from models.network.training import IGNORED, best_precision, learning_rate_factor
from models.tokens.asking import Asking
from models.tokens.build import train_tokenizer
from models.tokens.labels import Labels
from models.tokens.shards import Shard, ShardWriter
from models.tokens.tokenizer import CellTokenizer
from models.tokens.windows import Augmentation, Mixture, WindowDataset
from music.analysis.chords import chords_of
from music.analysis.sections import bar_places, sections_of
from music.score.cells import cell_statistics
from music.score.form import build, note_array
from music.score.parts import part_of, usual

# ticks of a quarter and of a step; steps of the longest note
TPQ, STEP, VOICES, CHOIR, LONGEST = 12, 3, 4, 52, 64
CONTEXT, LOOK, SHIFT = 512, 100, 6
# valid: Music Transformer; benchmarks/jsb.py as written, one network, one key
PUBLISHED, GRID_NETWORK = 0.335, 0.342


def score_of(grid: np.ndarray) -> Any:
    """The score of a grid (steps, 4), -1 where a voice is silent."""
    tracks = []
    for voice in range(VOICES):
        line, notes, start = grid[:, voice], list[tuple[int, int, int]](), 0
        for t in range(1, len(line) + 1):
            if t == len(line) or line[t] != line[start] or t - start == LONGEST:
                if line[start] >= 0:
                    notes.append((start * STEP, (t - start) * STEP, int(line[start])))
                start = t
        tracks.append((CHOIR, False, np.array(notes, dtype=np.int64).reshape(-1, 3)))
    return build(tracks, [(0, 4, 4)], TPQ, 80)


def shards(grids: dict[str, list[np.ndarray]], folder: Path) -> tuple[CellTokenizer, dict[str, Shard]]:
    scores = {split: [score_of(grid) for grid in grids[split]] for split in grids}
    heard = [
        part_of(note_array(track)) for score in scores["train"] for track in score.tracks if len(track.notes)
    ]
    tokenizer = train_tokenizer(
        metres=["4/4"],
        programs=[CHOIR],
        styles=["chorale"],
        rhythms=[],
        tempos=[],
        ticks_per_quarter=TPQ,
        velocity=80,
        max_note_quarters=16,
        max_bars_control=64,
        parts={CHOIR: usual(heard)},
    )
    for split, some in scores.items():
        with ShardWriter(folder, split) as writer:
            for i, score in enumerate(some):
                ids, starts = tokenizer.encode_score(score)
                pitches = np.concatenate([note_array(track)[:, 2] for track in score.tracks])
                writer.add(
                    ids,
                    starts,
                    cell_statistics(score),
                    bar_places(sections_of(score), len(starts)),
                    chords_of(score),
                    piece_id=str(i),
                    collection="jsb",
                    style="chorale",
                    rhythm="",
                    key="",
                    tempo="",
                    notes=score.note_num(),
                    low=int(pitches.min()),
                    high=int(pitches.max()),
                )
    return tokenizer, {split: Shard(folder, split) for split in scores}


def per_slot(network: Network, tokenizer: CellTokenizer, shard: Shard, grids: list[np.ndarray]) -> float:
    bodies = [(shard.piece(i), shard.bar_starts(i)) for i in range(len(shard))]
    told = [Labels(bars=len(starts)) for _, starts in bodies]
    nats = piece_nats(network, tokenizer, bodies, told)
    return sum(float(n.sum()) for n in nats) / sum(len(grid) * VOICES for grid in grids)


def train(
    tokenizer: CellTokenizer,
    found: dict[str, Shard],
    grids: dict[str, list[np.ndarray]],
    steps: int,
    dropout: float,
) -> tuple[Network, dict[str, Tensor], float]:
    """The network, its weights at the best look, and nats a slot of valid then."""
    torch.manual_seed(1)
    network = Network(sized("small", vocabulary=len(tokenizer), context=CONTEXT, dropout=dropout))
    optimiser = MuonAdamW(network, matrix_rate=0.02, rate=0.003, weight_decay=0.1)
    rows = Augmentation(SHIFT, asking=Asking(controls=False), ends=0.6, shortened=0.0, fresh=0.0)
    data = WindowDataset(
        found["train"], tokenizer, CONTEXT, rows, Mixture(1, 0, 0, 0), 1, 0, steps * short_runs.BATCH
    )
    best, kept, bf16 = float("inf"), dict[str, Tensor](), best_precision() == "bf16-mixed"
    for step in range(steps):
        network.train()
        optimiser.scale_rates(learning_rate_factor(step / steps, 0.05))
        batch = [data[step * short_runs.BATCH + i] for i in range(short_runs.BATCH)]
        placed, scored = (
            torch.stack([row for row, _ in batch]),
            torch.stack([mine for _, mine in batch])[:, 1:],
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = network.loss(
                placed[:, :-1], torch.where(scored, placed[:, 1:, 0].long(), IGNORED), IGNORED
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % LOOK == 0 or step + 1 == steps:
            now = per_slot(network, tokenizer, found["valid"], grids["valid"])
            print(step + 1, round(now, 4), flush=True)
            if now < best:
                best, kept = now, {name: value.clone() for name, value in network.state_dict().items()}
    return network, kept, best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/jsb"))
    options = parser.parse_args()
    if not (options.data / "Jsb16thSeparated.json").exists():
        print(
            f"skipped: {options.data} has no Jsb16thSeparated.json; give the benchmark's folder with --data"
        )
        return
    grids, begun = load(options.data / "Jsb16thSeparated.json"), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, found = shards(grids, Path(folder))
        network, kept, valid = train(tokenizer, found, grids, options.steps, options.dropout)
        minutes = (time.monotonic() - begun) / 60
        network.load_state_dict(kept)
        test = per_slot(network, tokenizer, found["test"], grids["test"])
    report.write(
        "jsb_served",
        [
            {
                "system": "served architecture, closed, one network, one key",
                "valid": round(valid, 4),
                "test": round(test, 4),
                "steps": options.steps,
                "minutes": round(minutes, 1),
            },
            {"system": "Music Transformer, relative pitch and time (Huang et al. 2018)", "valid": PUBLISHED},
            {"system": "grid network of benchmarks/jsb.py, one network, one key", "valid": GRID_NETWORK},
        ],
        {"within 3 % of the grid network": report.target(valid, "<=", round(1.03 * GRID_NETWORK, 4))},
    )


if __name__ == "__main__":
    main()
