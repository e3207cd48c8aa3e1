"""Stage `finetune`: the music with what it is. Labels and descriptors become controls that a request can ask
for."""

import json
from pathlib import Path

import numpy as np

from pipelines.running.files import StageError, run_stage
from pipelines.running.params import load_params
from pipelines.running.training_run import TOKENS, Run, load_weights, train

START = Path("data/pretrain")


def main() -> None:
    params = load_params()
    from models.network.lora import merged
    from models.network.training import Training, Windows
    from models.tokens.asking import Asking
    from models.tokens.build import load_tokenizer
    from models.tokens.shards import Shard, data_digest
    from models.tokens.windows import Augmentation, Mixture, piece_weights

    knobs = params.finetune
    tokenizer, shard = load_tokenizer(TOKENS / "tokenizer.json"), Shard(TOKENS, "train")
    config, weights = load_weights(START)
    drawn = piece_weights(shard, knobs.collection_temperature, knobs.rare_labels, knobs.often)
    if knobs.collections:
        known = {record["collection"] for record in shard.records}
        unknown = set(knobs.collections) - known
        if unknown:
            raise StageError(
                f"finetune.collections names {', '.join(sorted(unknown))}; the train split has "
                f"{', '.join(sorted(known))}"
            )
        drawn = np.where(
            [record["collection"] in knobs.collections for record in shard.records],
            drawn,
            drawn * knobs.rehearsal,
        )
    rank = knobs.rank if knobs.method == "lora" else 0
    run = Run(
        "finetune",
        knobs,
        params.machine,
        config,
        {"start": json.loads((START / "training.json").read_text())},
        data_digest(TOKENS),
    )
    train(
        run,
        lambda: (
            Training(
                config,
                tokenizer,
                Shard(TOKENS, "valid"),
                matrix_rate=knobs.matrix_rate,
                learning_rate=knobs.learning_rate,
                warmup=knobs.warmup,
                weight_decay=knobs.weight_decay,
                parallels=knobs.parallels,
                endings=knobs.endings,
                max_steps=knobs.max_steps,
                weights=weights,
                rank=rank,
                told=True,
                collections=knobs.collections,
            ),
            Windows(
                shard,
                tokenizer,
                context=config.context,
                batch_size=knobs.batch_size,
                steps=knobs.validate_every_steps,
                most_steps=knobs.max_steps,
                seed=knobs.seed,
                augmentation=Augmentation(
                    knobs.transpose,
                    knobs.stretch,
                    Asking(True, knobs.unconditioned, knobs.chords, knobs.form),
                    ends=knobs.ends,
                    most_bars=knobs.most_bars,
                    shortened=knobs.shortened,
                    fresh=knobs.fresh,
                    accompanied=knobs.accompanied,
                ),
                mixture=Mixture(**knobs.mixture.model_dump()),
                weights=drawn / drawn.sum(),
            ),
        ),
        finish=merged if rank else dict,
    )


if __name__ == "__main__":
    run_stage(main)
