"""Stage `finetune`: the music with what it is. Labels and descriptors become controls that a request can ask for."""

import json
from pathlib import Path

import numpy as np

from pipelines.files import StageError, run_stage
from pipelines.params import load_params
from pipelines.training import TOKENS, Run, load_weights, train

START = Path("data/pretrain")


def main() -> None:
    params = load_params()
    from models.lora import merged
    from models.shards import Shard, data_digest
    from models.tokens import load_tokenizer
    from models.training import Training, Windows
    from models.windows import Augmentation, Mixture, piece_weights

    knobs = params.finetune
    tokenizer, shard = load_tokenizer(TOKENS / "tokenizer.json"), Shard(TOKENS, "train")
    config, weights = load_weights(START)
    drawn = piece_weights(shard, knobs.collection_temperature, knobs.rare_labels)
    if knobs.collections:
        known = {record["collection"] for record in shard.records}
        unknown = set(knobs.collections) - known
        if unknown:
            raise StageError(f"finetune.collections names {', '.join(sorted(unknown))}; the train split has {', '.join(sorted(known))}")
        drawn = np.where([record["collection"] in knobs.collections for record in shard.records], drawn, drawn * knobs.rehearsal)
    rank = knobs.rank if knobs.method == "lora" else 0
    run = Run("finetune", knobs, config, {"start": json.loads((START / "training.json").read_text())}, data_digest(TOKENS))
    train(run, lambda clock: (
        Training(config, tokenizer, Shard(TOKENS, "valid"), matrix_rate=knobs.matrix_rate, learning_rate=knobs.learning_rate, warmup=knobs.warmup,
                 weight_decay=knobs.weight_decay, max_steps=knobs.max_steps, clock=clock, weights=weights, rank=rank, told=True, collections=knobs.collections),
        Windows(shard, tokenizer, context=config.context, batch_size=knobs.batch_size, steps=knobs.validate_every_steps, seed=knobs.seed,
                augmentation=Augmentation(knobs.transpose, knobs.stretch, controls=True, unconditioned=knobs.unconditioned, most_bars=knobs.most_bars),
                mixture=Mixture(**knobs.mixture.model_dump()), weights=drawn / drawn.sum()),
    ), finish=merged if rank else dict)  # fmt: skip


if __name__ == "__main__":
    run_stage(main)
