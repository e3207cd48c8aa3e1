"""AdamW at several rates against Muon: the starter network, same seed, same windows, same number of steps; nats per note of the valid split."""

import argparse
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks import report
from models.network import Network, sized
from models.optimizer import MuonAdamW
from models.pretraining import VALID_PIECES, learning_rate_factor
from models.scoring import nats_per_note, piece_nats
from models.shards import Shard
from models.tokens import load_tokenizer
from models.windows import Augmentation, WindowDataset
from pipelines.params import load_params

TOKENS = Path("data/tokens")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    params = load_params()
    knobs, tokenizer, valid = params.pretrain, load_tokenizer(TOKENS / "tokenizer.json"), Shard(TOKENS, "valid")
    chosen = range(0, len(valid), max(len(valid) // VALID_PIECES, 1))
    rows = []
    for name, rate in (("AdamW", 3e-4), ("AdamW", 1e-3), ("AdamW", 3e-3), ("Muon + AdamW", knobs.learning_rate)):
        torch.manual_seed(knobs.seed)
        network = Network(sized("small", vocabulary=len(tokenizer), context=params.network.context))
        muon = name.startswith("Muon")
        optimiser: torch.optim.Optimizer = (
            MuonAdamW(network, matrix_rate=knobs.matrix_rate, rate=rate, weight_decay=knobs.weight_decay) if muon
            else torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=knobs.weight_decay, fused=True)
        )  # fmt: skip
        peaks = [group["lr"] for group in optimiser.param_groups]
        data = WindowDataset(Shard(TOKENS, "train"), tokenizer, params.network.context, Augmentation(knobs.transpose, knobs.unconditioned), knobs.seed, 0, steps * knobs.batch_size)
        begin = time.perf_counter()
        for step in range(steps):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * learning_rate_factor(step / steps, knobs.warmup)
            windows = torch.stack([data[step * knobs.batch_size + i] for i in range(knobs.batch_size)])
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(windows[:, :-1])
            F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), knobs.gradient_clip)
            optimiser.step()
            optimiser.zero_grad()
        seconds = time.perf_counter() - begin
        nats = piece_nats(network, tokenizer, [(valid.piece(i), valid.bar_starts(i)) for i in chosen])
        each = nats_per_note(nats, [int(valid.records[i]["notes"]) for i in chosen])
        rows.append({"optimiser": name, "peak rate": rate, "steps": steps, "nats per note, valid": round(each, 3), "ms a step": round(1000 * seconds / steps)})
        print(rows[-1], flush=True)
    report.write("optimiser", rows, {})


if __name__ == "__main__":
    main()
