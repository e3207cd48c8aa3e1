"""Stage `pretrain`: the music alone. Next token over whole pieces and over regions to fill, nothing asked."""

import shutil
from pathlib import Path

from pipelines.files import StageError, run_stage, write_csv, write_json
from pipelines.params import load_params
from pipelines.training import TOKENS, Run, load_weights, save_weights, train

LIVE = Path("reports/pretrain")
BASE = Path("data/base")  # a bundle to start from, where pretrain.start is base: `ostinato finetune` puts the champion here


def main() -> None:
    params = load_params()
    from models.network import sized
    from models.shards import Shard, data_digest
    from models.tokens import load_tokenizer
    from models.training import Training, Windows
    from models.vocabulary import grown
    from models.windows import Augmentation, Mixture, piece_weights

    knobs = params.pretrain
    tokenizer, shard = load_tokenizer(TOKENS / "tokenizer.json"), Shard(TOKENS, "train")
    config = sized(params.network.size, vocabulary=len(tokenizer), context=params.network.context, dropout=params.network.dropout)
    weights = None
    if knobs.start == "base":
        if not (BASE / "model.safetensors").exists():
            raise StageError(f"pretrain.start is base, but there is no bundle in {BASE}: run `ostinato finetune FOLDER`, which puts the champion there, or set pretrain.start to nothing")
        old, found = load_weights(BASE)
        config = sized(params.network.size, vocabulary=len(tokenizer), context=old.context, dropout=params.network.dropout)
        if (old.width, old.layers) != (config.width, config.layers):
            raise StageError(f"the bundle in {BASE} is {old.width} wide with {old.layers} layers; set network.size to the size it was trained with")
        weights = grown(found, load_tokenizer(BASE / "tokenizer.json"), tokenizer)
    run = Run("pretrain", knobs, config, {"base": (BASE / "bundle.json").read_text() if weights is not None else ""}, data_digest(TOKENS))
    if weights is not None and knobs.start_only:
        shutil.rmtree(LIVE, ignore_errors=True)
        write_csv(LIVE / "plots/metrics/valid_nats_per_note.tsv", ["step\tvalid_nats_per_note"], [])  # no curve: nothing was trained
        write_json(LIVE / "metrics.json", {"step": 0})
        return save_weights(run, weights, {"valid_nats_per_note": None, "steps": 0, "minutes": 0.0, "mlflow_run": ""})
    train(run, lambda clock: (
        Training(config, tokenizer, Shard(TOKENS, "valid"), matrix_rate=knobs.matrix_rate, learning_rate=knobs.learning_rate, warmup=knobs.warmup,
                 weight_decay=knobs.weight_decay, max_steps=knobs.max_steps, clock=clock, weights=weights),
        Windows(shard, tokenizer, context=config.context, batch_size=knobs.batch_size, steps=knobs.validate_every_steps, seed=knobs.seed,
                augmentation=Augmentation(knobs.transpose, knobs.stretch, controls=False), mixture=Mixture(**knobs.mixture.model_dump()),
                weights=piece_weights(shard, knobs.collection_temperature, knobs.rare_labels)),
    ))  # fmt: skip


if __name__ == "__main__":
    run_stage(main)
