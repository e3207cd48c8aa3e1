"""Stage `pretrain`: next-token training with Lightning; resumes from its last checkpoint after a kill."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from pipelines.files import StageError, run_stage, whole_file, write_json
from pipelines.params import Params, load_params
from pipelines.tracking import git_commit, home, open_experiment, tracking_uri

TOKENS = Path("data/tokens")
OUT = Path("data/pretrain")
LIVE = Path("reports/pretrain")


def run_key(params: Params, data: str) -> str:
    """Names the checkpoint folder: another data set, network or knob never resumes this run."""
    text = json.dumps([params.network.model_dump(), params.pretrain.model_dump(), data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> None:
    params = load_params()
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
    import mlflow
    import pytorch_lightning as pl
    from dvclive import Live
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
    from pytorch_lightning.loggers import MLFlowLogger
    from safetensors.torch import save_file

    from models.network import sized
    from models.pretraining import Clock, Pretraining, Windows, best_precision
    from models.shards import Shard, data_digest
    from models.tokens import load_tokenizer
    from models.windows import Augmentation
    from pipelines.progress import LiveMetrics

    knobs = params.pretrain
    data = data_digest(TOKENS)
    checkpoints = home() / "pretrain" / run_key(params, data)
    checkpoints.mkdir(parents=True, exist_ok=True)
    last = checkpoints / "last.ckpt"
    tokenizer = load_tokenizer(TOKENS / "tokenizer.json")
    config = sized(params.network.size, vocabulary=len(tokenizer), context=params.network.context, dropout=params.network.dropout)
    pl.seed_everything(knobs.seed, verbose=False)
    clock = Clock(knobs.time_budget_min * 60)
    module = Pretraining(config, tokenizer, Shard(TOKENS, "valid"), matrix_rate=knobs.matrix_rate, learning_rate=knobs.learning_rate, warmup=knobs.warmup,
                         weight_decay=knobs.weight_decay, max_steps=knobs.max_steps, clock=clock)  # fmt: skip
    windows = Windows(TOKENS, tokenizer, context=config.context, batch_size=knobs.batch_size, steps=knobs.validate_every_steps,
                      augmentation=Augmentation(knobs.transpose, knobs.unconditioned), seed=knobs.seed)  # fmt: skip
    experiment = open_experiment()
    run_file = checkpoints / "mlflow_run"
    run_id = run_file.read_text() if run_file.exists() and last.exists() else None
    with mlflow.start_run(run_id=run_id, experiment_id=experiment, run_name="pretrain", log_system_metrics=True) as run:
        run_file.write_text(run.info.run_id)
        mlflow.set_tags({"DVC_STAGE": "pretrain", "git_commit": git_commit(), "data_digest": data})
        if run_id is None:
            mlflow.log_params({**params.network.model_dump(), **knobs.model_dump(), "parameters": module.network.parameter_count()})
            _log_dataset(data)
        live = Live(dir=str(LIVE), resume=last.exists(), report=None, save_dvc_exp=False, dvcyaml=None)
        saver = ModelCheckpoint(dirpath=checkpoints, filename="best", monitor="valid_nats_per_note", save_last=True, save_on_train_epoch_end=True, enable_version_counter=False)
        trainer = pl.Trainer(
            accelerator="auto", devices=knobs.devices, num_nodes=knobs.nodes, strategy=knobs.strategy, max_steps=knobs.max_steps, max_epochs=-1,
            precision=best_precision() if knobs.precision == "auto" else knobs.precision, gradient_clip_val=knobs.gradient_clip,
            reload_dataloaders_every_n_epochs=1, num_sanity_val_steps=0, log_every_n_steps=10, enable_model_summary=False,
            logger=MLFlowLogger(tracking_uri=tracking_uri(), run_id=run.info.run_id),
            callbacks=[clock, saver, EarlyStopping("valid_nats_per_note", patience=knobs.patience, check_on_train_epoch_end=False), LiveMetrics(live)],
        )  # fmt: skip
        trainer.fit(module, windows, ckpt_path=last if last.exists() else None, weights_only=True)
        if not saver.best_model_path:
            raise StageError("training ended before the first look at the valid split: raise pretrain.time_budget_min or lower pretrain.validate_every_steps")
        import torch

        best = torch.load(saver.best_model_path, weights_only=True)["state_dict"]
        weights = {name.removeprefix("network."): value.contiguous() for name, value in best.items()}
        OUT.mkdir(parents=True, exist_ok=True)
        write_json(OUT / "config.json", config.to_dict())
        result = {"valid_nats_per_note": float(saver.best_model_score), "steps": trainer.global_step, "minutes": round(clock.elapsed_s / 60, 2), "parameters": module.network.parameter_count()}  # type: ignore[arg-type]
        write_json(OUT / "training.json", {**result, "data_digest": data, "mlflow_run": run.info.run_id})
        with whole_file(OUT / "model.safetensors") as temporary:
            save_file(weights, temporary)
        live.end()
    shutil.rmtree(checkpoints, ignore_errors=True)


def _log_dataset(digest: str) -> None:
    """The train split as an MLflow dataset, named by the digest of its tokens."""
    import mlflow
    import pandas as pd

    report = json.loads(Path("reports/tokenise_report.json").read_text())["splits"]
    for split in ("train", "valid"):
        table = pd.DataFrame([report[split]])
        mlflow.log_input(mlflow.data.from_pandas(table, name=f"tokens_{split}", digest=digest[:36]), context="training" if split == "train" else "validation")


if __name__ == "__main__":
    run_stage(main)
