"""AdamW at several rates against Muon: the starter network, same seed, same windows, same number of steps;
nats per note of the valid split."""

import argparse
from functools import partial
from pathlib import Path

import torch

from benchmarks import report, short_runs
from models.network.config import sized
from models.network.decoder import Network
from models.network.likelihood import nats_per_note, piece_nats
from models.network.training import VALID_PIECES
from models.tokens.asking import Asking
from models.tokens.build import load_tokenizer
from models.tokens.shards import Shard
from models.tokens.windows import Augmentation, Mixture, WindowDataset
from pipelines.running.params import load_params

TOKENS = Path("data/tokens")


def adamw(rate: float, network: Network) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        network.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=short_runs.DECAY, fused=True
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    params = load_params()
    knobs, tokenizer, valid = (
        params.pretrain,
        load_tokenizer(TOKENS / "tokenizer.json"),
        Shard(TOKENS, "valid"),
    )
    chosen = range(0, len(valid), max(len(valid) // VALID_PIECES, 1))
    rows = []
    contenders: list[tuple[str, float, short_runs.Optimiser]] = [
        ("AdamW", rate, partial(adamw, rate)) for rate in (3e-4, 1e-3, 3e-3)
    ]
    for name, rate, optimiser in [*contenders, ("Muon + AdamW", short_runs.RATE, short_runs.muon)]:
        torch.manual_seed(knobs.seed)
        network = Network(sized("small", vocabulary=len(tokenizer), context=params.network.context))
        data = WindowDataset(
            Shard(TOKENS, "train"),
            tokenizer,
            params.network.context,
            Augmentation(knobs.transpose, asking=Asking(controls=False)),
            Mixture(1, 0, 0, 0),
            knobs.seed,
            0,
            steps * short_runs.BATCH,
        )
        seconds = short_runs.train(network, data, steps, optimiser)
        nats = piece_nats(network, tokenizer, [(valid.piece(i), valid.bar_starts(i)) for i in chosen])
        each = nats_per_note(nats, [int(valid.records[i]["notes"]) for i in chosen])
        rows.append(
            {
                "optimiser": name,
                "peak rate": rate,
                "steps": steps,
                "nats per note, valid": round(each, 3),
                "ms a step": round(1000 * seconds),
            }
        )
        print(rows[-1], flush=True)
    report.write("optimiser", rows, {})


if __name__ == "__main__":
    main()
