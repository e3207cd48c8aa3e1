"""What musical place is worth: the starter network on chorales alone, at equal steps, with and without it,
and with the voices interleaved in time instead.

    python -m benchmarks.places --steps 200

Nats per note of the first eight bars of the valid split's four-voice chorales (no tune family of theirs is in
the train split), nothing asked. Interleaved: for every moment in which something begins a Position, then for
each voice that begins its number, the duration and the pitch.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks import report, short_runs
from models.network.config import sized
from models.network.decoder import Network
from models.tokens.asking import Asking
from models.tokens.build import load_tokenizer
from models.tokens.labels import Labels
from models.tokens.place import COPIED, WIDTH, Told
from models.tokens.place_reader import PlaceReader
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from models.tokens.windows import Augmentation, Mixture, WindowDataset
from music.score.form import bar_table, note_array
from pipelines.running.params import load_params

TOKENS, VOICES, BARS, SHIFT = Path("data/tokens"), 4, 8, 5
Row = tuple[Tensor, Tensor]


@dataclass
class Masked(Dataset[Row]):
    """Rows of another dataset without some numbers of their places."""

    data: Dataset[Row]
    hidden: tuple[int, ...]

    def __getitem__(self, index: int) -> Row:
        row, scored = self.data[index]
        row = row.clone()
        row[:, list(self.hidden)] = 0
        return row, scored


class Interleaved(Dataset[Row]):
    """Chorales moment by moment, all voices that begin together."""

    BAR, END, POSITION, VOICE, DURATION, PITCH, SIZE = 1, 2, 3, 103, 107, 307, 435

    def __init__(self, shard: Shard, tokenizer: CellTokenizer, chosen: list[int], context: int) -> None:
        self._scores = [tokenizer.decode_ids(shard.piece(i)) for i in chosen]
        self._context = context

    @classmethod
    def ids(cls, score: Any, shift: int = 0, bars: int | None = None) -> np.ndarray:
        table = bar_table(score)
        notes = sorted(
            (onset, k, duration, pitch + shift)
            for k, track in enumerate(score.tracks)
            for onset, duration, pitch in note_array(track).tolist()
        )
        found: list[int] = []
        bar, last = -1, None
        for onset, k, duration, pitch in notes:
            while bar + 1 < len(table) and table[bar + 1, 0] <= onset:
                bar, last = bar + 1, None
                if bar == bars:
                    return np.array(found)
                found.append(cls.BAR)
            if onset != last:
                found.append(cls.POSITION + int(onset - table[bar, 0]))
            last = onset
            found += [cls.VOICE + k, cls.DURATION + min(duration, 199), cls.PITCH + pitch]
        return np.array([*found, cls.END])

    def __getitem__(self, index: int) -> Row:
        random = np.random.default_rng((1, index))
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) <= self._context:
            score = self._scores[int(random.integers(len(self._scores)))]
            ids = self.ids(score, int(random.integers(-SHIFT, SHIFT + 1)))
            bars = np.flatnonzero(ids == self.BAR)
            parts.append(ids[0 if random.random() < 0.4 else int(random.choice(bars)) :])
        row = np.zeros((self._context + 1, WIDTH), dtype=np.int32)
        row[:, 0] = np.concatenate(parts)[: self._context + 1]
        return torch.from_numpy(row), torch.ones(self._context + 1, dtype=torch.bool)


@torch.inference_mode()
def nats(network: Network, rows: list[np.ndarray], given: int, notes: int) -> float:
    """Nats a note of the tokens after the first `given` of each row (n, WIDTH)."""
    network.eval()
    total = sum(float(network.nats(row[None])[0, given - 1 :].sum()) for row in rows)
    return round(total / notes, 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    params, t = load_params(), load_tokenizer(TOKENS / "tokenizer.json")
    train, valid, context = Shard(TOKENS, "train"), Shard(TOKENS, "valid"), params.network.context
    chosen, held = (
        [i for i, r in enumerate(s.records) if r["style"] == "chorale" and s.statistics(i).shape[1] == VOICES]
        for s in (train, valid)
    )
    weights = np.zeros(len(train))
    weights[chosen] = train.lengths[chosen]
    rows_of = Augmentation(SHIFT, asking=Asking(controls=False), ends=0.0, fresh=0.0)
    placed = WindowDataset(
        train,
        t,
        context,
        rows_of,
        Mixture(1, 0, 0, 0),
        1,
        0,
        steps * short_runs.BATCH,
        weights / weights.sum(),
    )
    reader, prefix = PlaceReader(t), t.prefix(Labels())
    scores = [t.decode_ids(valid.piece(i)) for i in held]
    notes = sum(int(valid.statistics(i)[:BARS, :, 0].sum()) for i in held)
    cells = []
    for i in held:
        starts, body = valid.bar_starts(i), np.asarray(valid.piece(i)).astype(np.int64)
        part = body[: starts[BARS]] if len(starts) > BARS else body
        cells.append(reader.read(np.concatenate([prefix, part]), Told(VOICES, len(starts), 0)))
    everything = tuple(range(1, WIDTH))

    def masked(hidden: tuple[int, ...]) -> tuple[Dataset[Row], list[np.ndarray]]:
        rows = [row.copy() for row in cells]
        for row in rows:
            row[:, list(hidden)] = 0
        return Masked(placed, hidden), rows

    def in_time() -> tuple[Dataset[Row], list[np.ndarray]]:
        rows = []
        for score in scores:
            ids = Interleaved.ids(score, bars=BARS)
            rows.append(np.zeros((len(ids), WIDTH), dtype=np.int32))
            rows[-1][:, 0] = ids
        return Interleaved(train, t, chosen, context), rows

    settings: dict[str, tuple[Callable[[], tuple[Dataset[Row], list[np.ndarray]]], int, int]] = {
        "cells, tokens alone": (lambda: masked(everything), len(t), len(prefix)),
        "voices interleaved in time, tokens alone": (in_time, Interleaved.SIZE, 1),
        "cells, places without copies": (lambda: masked(COPIED), len(t), len(prefix)),
        "cells, places (ours)": (lambda: masked(()), len(t), len(prefix)),
    }
    table: list[dict[str, Any]] = []
    for name, (make, vocabulary, given) in settings.items():
        torch.manual_seed(1)
        network = Network(sized("small", vocabulary=vocabulary, context=context))
        data, rows = make()
        seconds = short_runs.train(network, data, steps)
        table.append(
            {
                "sequence": name,
                "nats a note": nats(network, rows, given, notes),
                "tokens a note": round(sum(len(row) - given for row in rows) / notes, 2),
                "steps": steps,
                "seconds a step": round(seconds, 3),
            }
        )
        print(table[-1], flush=True)
    plain, interleaved, _, ours = (float(row["nats a note"]) for row in table)
    report.write("places", table, {"below both others": report.target(ours, "<=", min(plain, interleaved))})


if __name__ == "__main__":
    main()
