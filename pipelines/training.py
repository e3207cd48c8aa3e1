"""What the training stages share: one run with Lightning, tracked by MLflow and DVCLive, that resumes from its last checkpoint after a kill."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import StageError, whole_file, write_json
from pipelines.params import Align, TrainingKnobs
from pipelines.tracking import git_commit, home, open_experiment, tracking_uri

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from torch import Tensor

    from models.network import NetworkConfig
    from models.training import Clock

TOKENS = Path("data/tokens")


@dataclass(frozen=True)
class Run:
    """One training run: its stage's name, knobs, and what names it (another data set, network, start or knob never resumes it)."""

    stage: str
    knobs: TrainingKnobs | Align
    config: "NetworkConfig"
    named_by: dict[str, Any]
    data_digest: str

    @property
    def key(self) -> str:
        text = json.dumps([self.stage, self.knobs.model_dump(), self.config.to_dict(), self.named_by, self.data_digest], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def out(self) -> Path:
        return Path("data") / self.stage


def train(
    run: Run, make: Callable[["Clock"], tuple["pl.LightningModule", "pl.LightningDataModule"]], finish: Callable[[dict[str, "Tensor"]], dict[str, "Tensor"]] = dict,
    watched: str = "valid_nats_per_note", mode: str = "min",
) -> None:  # fmt: skip
    """Train what `make` builds (its `network`), `finish` the weights of the best look at `watched`, write them with config.json and training.json to data/<stage>."""
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
    import mlflow
    import pytorch_lightning as pl
    import torch
    from dvclive import Live
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
    from pytorch_lightning.loggers import MLFlowLogger

    from models.training import Clock, best_precision
    from pipelines.progress import LiveMetrics

    knobs = run.knobs
    checkpoints = home() / run.stage / run.key
    checkpoints.mkdir(parents=True, exist_ok=True)
    last, run_file = checkpoints / "last.ckpt", checkpoints / "mlflow_run"
    pl.seed_everything(knobs.seed, verbose=False)
    clock = Clock(knobs.time_budget_min * 60)
    module, windows = make(clock)
    experiment = open_experiment()
    run_id = run_file.read_text() if run_file.exists() and last.exists() else None
    with mlflow.start_run(run_id=run_id, experiment_id=experiment, run_name=run.stage, log_system_metrics=True) as tracked:
        run_file.write_text(tracked.info.run_id)
        mlflow.set_tags({"DVC_STAGE": run.stage, "git_commit": git_commit(), "data_digest": run.data_digest})
        if run_id is None:
            mlflow.log_params({**run.config.to_dict(), **_flat(knobs.model_dump()), "parameters": module.network.parameter_count()})
            _log_dataset(run.data_digest)
        live = Live(dir=f"reports/{run.stage}", resume=last.exists(), report=None, save_dvc_exp=False, dvcyaml=None)
        saver = ModelCheckpoint(dirpath=checkpoints, filename="best", monitor=watched, mode=mode, save_on_train_epoch_end=True, enable_version_counter=False)
        keeper = ModelCheckpoint(dirpath=checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)  # save_last of the other would wait for a better look
        trainer = pl.Trainer(
            accelerator="auto", devices=knobs.devices, num_nodes=knobs.nodes, strategy=knobs.strategy, max_steps=knobs.max_steps, max_epochs=-1,
            precision=best_precision() if knobs.precision == "auto" else knobs.precision, gradient_clip_val=knobs.gradient_clip,
            reload_dataloaders_every_n_epochs=1, num_sanity_val_steps=0, log_every_n_steps=10, enable_model_summary=False,
            logger=MLFlowLogger(tracking_uri=tracking_uri(), run_id=tracked.info.run_id),
            callbacks=[clock, saver, keeper, EarlyStopping(watched, mode=mode, patience=knobs.patience, check_on_train_epoch_end=False), LiveMetrics(live)],
        )  # fmt: skip
        trainer.fit(module, windows, ckpt_path=last if last.exists() else None, weights_only=True)
        if not saver.best_model_path:
            raise StageError(f"training ended before the first look at the valid split: raise {run.stage}.time_budget_min")
        best = torch.load(saver.best_model_path, weights_only=True)["state_dict"]
        weights = finish({name.removeprefix("network."): value.contiguous() for name, value in best.items()})
        result = {watched: float(saver.best_model_score), "steps": trainer.global_step, "minutes": round(clock.elapsed_s / 60, 2)}  # type: ignore[arg-type]
        save_weights(run, weights, {**result, "mlflow_run": tracked.info.run_id})
        live.end()
    shutil.rmtree(checkpoints, ignore_errors=True)


def save_weights(run: Run, weights: dict[str, "Tensor"], result: dict[str, Any]) -> None:
    """The outputs of a training stage."""
    from safetensors.torch import save_file

    run.out.mkdir(parents=True, exist_ok=True)
    write_json(run.out / "config.json", run.config.to_dict())
    write_json(run.out / "training.json", {**result, "parameters": sum(value.numel() for value in weights.values()), "data_digest": run.data_digest})
    with whole_file(run.out / "model.safetensors") as temporary:
        save_file({name: value.contiguous() for name, value in weights.items()}, temporary)


def load_weights(folder: Path) -> tuple["NetworkConfig", dict[str, "Tensor"]]:
    """What `save_weights` wrote."""
    from safetensors.torch import load_file

    from models.network import NetworkConfig

    return NetworkConfig(**json.loads((folder / "config.json").read_text())), load_file(folder / "model.safetensors")


def _flat(knobs: dict[str, Any]) -> dict[str, Any]:
    """{"mixture": {"whole": 1}} -> {"mixture.whole": 1}: MLflow shows a param a line."""
    flat: dict[str, Any] = {}
    for name, value in knobs.items():
        flat |= {f"{name}.{inner}": x for inner, x in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _log_dataset(digest: str) -> None:
    """The train split as an MLflow dataset, named by the digest of its tokens."""
    import mlflow
    import pandas as pd

    report = json.loads(Path("reports/tokenise_report.json").read_text())["splits"]
    for split in ("train", "valid"):
        table = pd.DataFrame([report[split]])
        mlflow.log_input(mlflow.data.from_pandas(table, name=f"tokens_{split}", digest=digest[:36]), context="training" if split == "train" else "validation")
