"""Training metrics to DVCLive, so that `dvc metrics` and `dvc plots` follow a run as it goes."""

import pytorch_lightning as pl
from dvclive import Live


class LiveMetrics(pl.Callback):
    """Writes what the module logs at every look at the valid split."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._live.step = trainer.global_step
        for name, value in trainer.callback_metrics.items():
            if name.startswith(("train_", "valid_")) or name in ("learning_rate", "tokens_per_s"):
                self._live.log_metric(name, float(value))
        self._live.make_summary()
        self._live.sync()
