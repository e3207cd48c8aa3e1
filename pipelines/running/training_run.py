"""What the training stages share: one run with Lightning, tracked by MLflow, that resumes from its last
checkpoint after a kill. Budgets are steps: the same code, data, params and kind of machine give the same
weights."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.running.files import StageError, whole_file, write_json
from pipelines.running.machine import be_quiet, made_on
from pipelines.running.params import Machine
from pipelines.running.params_training import Align, TrainingKnobs
from pipelines.running.tracking import home, open_experiment, run_tags, tracking_uri

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from torch import Tensor

    from models.network.config import NetworkConfig

TOKENS = Path("data/tokens")
Parts = tuple["pl.LightningModule", "pl.LightningDataModule"]


@dataclass(frozen=True)
class Run:
    """One training run: its stage's name, knobs, and what names it (another data set, network, start or knob
    never resumes it)."""

    stage: str
    knobs: TrainingKnobs | Align
    machine: Machine
    config: "NetworkConfig"
    named_by: dict[str, Any]
    data_digest: str

    @property
    def key(self) -> str:
        knobs = self.knobs.model_dump(exclude={"time_limit_min"})
        text = json.dumps(
            [self.stage, knobs, self.machine.threads, self.config.to_dict(), self.named_by, self.data_digest],
            sort_keys=True,
            default=str,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def devices(self) -> int:
        """Processes of a node."""
        return getattr(self.knobs, "devices", 1)

    @property
    def made_on(self) -> str:
        """The machine, as far as it decides the bits."""
        return made_on(precision_of(self.knobs), self.machine.threads, self.devices)

    @property
    def out(self) -> Path:
        return Path("data") / self.stage

    @property
    def reports(self) -> Path:
        return Path("reports") / self.stage

    @property
    def checkpoints(self) -> Path:
        return home() / self.stage / self.key


def train(
    run: Run,
    make: Callable[[], Parts],
    finish: Callable[[dict[str, "Tensor"]], dict[str, "Tensor"]] = dict,
    watched: str = "valid_nats_per_note",
    mode: str = "min",
) -> None:
    """Train what `make` builds (its `network`), `finish` the weights of the best look at `watched`, write
    them with config.json and training.json to data/<stage>. With several processes the first one alone tracks
    and writes."""
    import pytorch_lightning as pl
    from pytorch_lightning.utilities import rank_zero_only

    be_quiet()  # again: Lightning speaks up when it is loaded
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    pl.seed_everything(run.knobs.seed, verbose=False)
    module, windows = make()
    if rank_zero_only.rank != 0:
        _fit(run, module, windows, watched, mode, logger=False)
        return
    with _Tracked(run, module) as run_id:
        from pytorch_lightning.loggers import MLFlowLogger

        logger = MLFlowLogger(tracking_uri=tracking_uri(), run_id=run_id)
        trainer, best = _fit(run, module, windows, watched, mode, logger)
        _keep(run, trainer, best, finish, watched)
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _fit(
    run: Run,
    module: "pl.LightningModule",
    windows: "pl.LightningDataModule",
    watched: str,
    mode: str,
    logger: Any,
) -> tuple["pl.Trainer", Any]:
    """Run the trainer to its end; returns it with the saver of the best look."""
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer, TQDMProgressBar

    from pipelines.running.progress import Looks

    knobs, last = run.knobs, run.checkpoints / "last.ckpt"
    kept = {"dirpath": run.checkpoints, "save_on_train_epoch_end": True, "enable_version_counter": False}
    saver = ModelCheckpoint(filename="best", monitor=watched, mode=mode, **kept)
    keeper = ModelCheckpoint(filename="last", **kept)  # save_last of the other would wait for a better look
    limit = (
        [Timer({"seconds": round(60 * knobs.time_limit_min)}, verbose=False)] if knobs.time_limit_min else []
    )
    stopper = EarlyStopping(watched, mode=mode, patience=knobs.patience, check_on_train_epoch_end=False)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=run.devices,
        num_nodes=getattr(knobs, "nodes", 1),
        strategy=getattr(knobs, "strategy", "auto"),
        max_steps=knobs.max_steps,
        max_epochs=-1,
        precision=precision_of(knobs),
        gradient_clip_val=knobs.gradient_clip,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_model_summary=False,
        logger=logger,
        callbacks=[
            *limit,
            Looks(run.reports, watched, run.made_on),
            saver,
            keeper,
            stopper,
            TQDMProgressBar(20),
        ],
    )
    trainer.fit(module, windows, ckpt_path=last if last.exists() else None, weights_only=True)
    return trainer, saver


def _keep(run: Run, trainer: "pl.Trainer", saver: Any, finish: Callable[..., Any], watched: str) -> None:
    """The outputs of a run, from its best look."""
    import mlflow
    import torch

    if not saver.best_model_path:
        raise StageError(
            "training ended before the first look at the valid split: raise or unset "
            f"{run.stage}.time_limit_min"
        )
    best = torch.load(saver.best_model_path, weights_only=True)["state_dict"]
    weights = finish({name.removeprefix("network."): value.contiguous() for name, value in best.items()})
    cut = trainer.global_step < run.knobs.max_steps and not trainer.early_stopping_callback.stopped_epoch  # type: ignore[union-attr]
    if cut:
        print(
            f"cut by {run.stage}.time_limit_min at step {trainer.global_step}: another run ends elsewhere",
            flush=True,
        )
    result = {watched: round(float(saver.best_model_score), 6), "steps": trainer.global_step}
    digest = save_weights(run, weights, {**result, **({"cut_by_time_limit": True} if cut else {})})
    mlflow.set_tag("weights_sha256", digest)


class _Tracked:
    """An MLflow run that is gone on with after a kill: `with _Tracked(run, module) as its id`."""

    def __init__(self, run: Run, module: "pl.LightningModule") -> None:
        self._run, self._module = run, module

    def __enter__(self) -> str:
        os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
        import mlflow
        from mlflow.exceptions import MlflowException

        run, file = self._run, self._run.checkpoints / "mlflow_run"
        experiment = open_experiment()
        earlier = file.read_text() if file.exists() and (run.checkpoints / "last.ckpt").exists() else None
        named = {"experiment_id": experiment, "run_name": run.stage, "log_system_metrics": True}
        try:
            started = mlflow.start_run(run_id=earlier, **named)
        except MlflowException:  # of another store, or deleted since: the training goes on in a new run
            earlier, started = None, mlflow.start_run(**named)
        file.write_text(started.info.run_id)
        mlflow.set_tags({**run_tags(run.stage), "data_digest": run.data_digest})
        if earlier is None:
            size = self._module.network.parameter_count()  # type: ignore[union-attr, operator]
            mlflow.log_params({**run.config.to_dict(), **_flat(run.knobs.model_dump()), "parameters": size})
            _log_dataset(run.data_digest)
        return str(started.info.run_id)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        import mlflow

        mlflow.end_run("FINISHED" if kind is None else "FAILED")


def precision_of(knobs: Any) -> Any:
    """Precision that a run trains in."""
    from models.network.training import best_precision

    return best_precision() if knobs.precision == "auto" else knobs.precision


def save_weights(run: Run, weights: dict[str, "Tensor"], result: dict[str, Any]) -> str:
    """The outputs of a training stage; returns the sha256 of the weights' file."""
    from safetensors.torch import save_file

    run.out.mkdir(parents=True, exist_ok=True)
    write_json(run.out / "config.json", run.config.to_dict())
    with whole_file(run.out / "model.safetensors") as temporary:
        save_file({name: value.contiguous() for name, value in sorted(weights.items())}, temporary)
    digest = hashlib.sha256((run.out / "model.safetensors").read_bytes()).hexdigest()
    told = {"parameters": sum(value.numel() for value in weights.values()), "data_digest": run.data_digest}
    write_json(run.out / "training.json", {**result, **told, "weights_sha256": digest})
    return digest


def keep_as_they_are(run: Run, weights: dict[str, "Tensor"], watched: str = "valid_nats_per_note") -> None:
    """Outputs of a stage that trains nothing."""
    from pipelines.running.progress import write_looks

    write_looks(run.reports, [], watched, run.made_on)
    save_weights(run, weights, {"steps": 0})


def load_weights(folder: Path) -> tuple["NetworkConfig", dict[str, "Tensor"]]:
    """What `save_weights` wrote."""
    from safetensors.torch import load_file

    from models.network.config import NetworkConfig

    config = NetworkConfig(**json.loads((folder / "config.json").read_text()))
    return config, load_file(folder / "model.safetensors")


def _flat(knobs: dict[str, Any]) -> dict[str, Any]:
    """{"mixture": {"whole": 1}} -> {"mixture.whole": 1}: MLflow shows a param a line."""
    flat: dict[str, Any] = {}
    for name, value in knobs.items():
        inner = {f"{name}.{key}": x for key, x in value.items()} if isinstance(value, dict) else {name: value}
        flat |= inner
    return flat


def _log_dataset(digest: str) -> None:
    """The train and valid splits as MLflow datasets, named by the digest of their tokens."""
    import mlflow
    import pandas as pd

    report = json.loads(Path("reports/tokenise_report.json").read_text())["splits"]
    for split, context in (("train", "training"), ("valid", "validation")):
        dataset = mlflow.data.from_pandas(
            pd.DataFrame([report[split]]), name=f"tokens_{split}", digest=digest[:36]
        )
        mlflow.log_input(dataset, context=context)
