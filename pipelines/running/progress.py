"""What a training shows as it goes: a table of its looks at the valid split, the newest of them as metrics,
and their curve."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from pipelines.running.files import write_csv, write_json
from pipelines.running.plots import curve

SHOWN = ("train_", "valid_")


class Looks(pl.Callback):
    """Writes every look to looks.csv, the newest to metrics.json, and draws them. The table travels in the
    checkpoint, so that a resumed run goes on with it. Nothing in it is measured in seconds: equal runs write
    equal files."""

    def __init__(self, folder: Path, watched: str, made_on: str) -> None:
        self._folder, self._watched, self._made_on = folder, watched, made_on
        self._rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = list(state_dict["rows"])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(SHOWN)
        }
        self._rows.append({"step": trainer.global_step, **found})
        if trainer.is_global_zero:
            write_looks(self._folder, self._rows, self._watched, self._made_on)


def write_looks(folder: Path, rows: list[dict[str, float]], watched: str, made_on: str) -> None:
    """looks.csv, metrics.json (the newest look: its step and the watched value; and the machine) and
    curve.svg."""
    names = list(rows[-1]) if rows else ["step", watched]
    write_csv(folder / "looks.csv", names, [tuple(row.get(name, "") for name in names) for row in rows])
    last = rows[-1] if rows else {}
    newest = {watched: round(last[watched], 4)} if last else {}
    write_json(folder / "metrics.json", {"step": int(last.get("step", 0)), **newest, "made_on": made_on})
    curve(folder / "curve.svg", rows, watched)
