"""Stage `pretrain`: the music alone. Next token over whole pieces and over regions to fill, nothing asked."""

from pathlib import Path

from pipelines.running.files import StageError, run_stage
from pipelines.running.params import load_params
from pipelines.running.training_run import TOKENS, Run, keep_as_they_are, load_weights, train

BASE = Path(
    "data/base/bundle"
)  # a bundle to start from, where pretrain.start is base: `ostinato finetune` puts the champion here


def main() -> None:
    params = load_params()
    from models.network.config import sized
    from models.network.training import Training, Windows
    from models.tokens.asking import Asking
    from models.tokens.build import load_tokenizer
    from models.tokens.shards import Shard, data_digest
    from models.tokens.vocabulary import grown
    from models.tokens.windows import Augmentation, Mixture, piece_weights

    knobs = params.pretrain
    tokenizer, shard = load_tokenizer(TOKENS / "tokenizer.json"), Shard(TOKENS, "train")
    config = sized(
        params.network.size,
        vocabulary=len(tokenizer),
        context=params.network.context,
        dropout=params.network.dropout,
    )
    weights = None
    if knobs.start == "base":
        if not (BASE / "model.safetensors").exists():
            raise StageError(
                f"pretrain.start is base, but there is no bundle in {BASE}: run `ostinato "
                f"finetune FOLDER`, which puts the champion there, or set pretrain.start to nothing"
            )
        old, found = load_weights(BASE)
        config = sized(
            params.network.size,
            vocabulary=len(tokenizer),
            context=old.context,
            dropout=params.network.dropout,
        )
        if (old.width, old.layers) != (config.width, config.layers):
            raise StageError(
                f"the bundle in {BASE} is {old.width} wide with {old.layers} layers; set "
                f"network.size to the size it was trained with"
            )
        weights = grown(found, load_tokenizer(BASE / "tokenizer.json"), tokenizer)
    run = Run(
        "pretrain",
        knobs,
        params.machine,
        config,
        {"base": (BASE / "bundle.json").read_text() if weights is not None else ""},
        data_digest(TOKENS),
    )
    if weights is not None and knobs.start_only:
        return keep_as_they_are(run, weights)
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
                    Asking(controls=False),
                    ends=knobs.ends,
                    shortened=knobs.shortened,
                    fresh=knobs.fresh,
                    accompanied=knobs.accompanied,
                ),
                mixture=Mixture(**knobs.mixture.model_dump()),
                weights=piece_weights(shard, knobs.collection_temperature, knobs.rare_labels, knobs.often),
            ),
        ),
    )


if __name__ == "__main__":
    run_stage(main)
