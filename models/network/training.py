"""Lightning module for training and fine-tuning, its schedule by steps, and its data."""

import math
import time
from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from models.network.config import NetworkConfig
from models.network.decoder import Network
from models.network.likelihood import piece_nats
from models.network.lora import add_low_rank
from models.network.optimizer import MuonAdamW
from models.tokens.place import COLUMN, COPIES, FIRST, OFFSETS, entry
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from models.tokens.windows import Augmentation, Mixture, WindowDataset

IGNORED = -100
STRICT = 0.02  # of the chances for a parallel taken, up to which music is held to avoid them
VALID_PIECES = 160  # looked at during training; evaluate uses all of the test split


def learning_rate_factor(progress: float, warmup: float) -> float:
    """Linear warm-up, then a cosine from 1 to 0.1 as `progress` goes from 0 to 1 (Loshchilov & Hutter
    2017)."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min((progress - warmup) / (1 - warmup), 1.0)))


def parallels(placed: Tensor, first_pitch: int) -> Tensor:
    """Pitch tokens that would make a parallel fifth or octave with another track, int64 (B, T, A), 0: none;
    tokens with their places (B, T, WIDTH)."""
    columns = [COLUMN[f"parallel{offset:+d}"] for offset in OFFSETS]
    entries = placed[..., [1 + COPIES + c for c in columns]].long()
    return torch.where(
        entries > 0, entries - torch.from_numpy(FIRST[columns]).to(placed.device) + first_pitch, 0
    )


def strict(avoided: Tensor, following: Tensor) -> Tensor:
    """Which rows hardly write what they could avoid, bool (B,): of tokens `avoided` (B, T, A), those that
    follow (B, T)."""
    could = (avoided > 0).any(dim=-1)
    done = (avoided == following[..., None]).any(dim=-1) & could
    return done.sum(dim=-1) <= STRICT * could.sum(dim=-1)


class ValidPieces:
    """Pieces of the valid split that are looked at during training. `told`: with their labels given;
    `collections`: only these, where there are any."""

    def __init__(
        self, valid: Shard, tokenizer: CellTokenizer, told: bool, collections: Sequence[str] = ()
    ) -> None:
        mine = [
            i
            for i, record in enumerate(valid.records)
            if not collections or record["collection"] in collections
        ]
        pool = mine or list(range(len(valid)))
        chosen = pool[:: max(len(pool) // VALID_PIECES, 1)]
        self._tokenizer = tokenizer
        self._pieces = [(valid.piece(i), valid.bar_starts(i)) for i in chosen]
        self._notes = [int(valid.records[i]["notes"]) for i in chosen]
        self._labels = [valid.labels(i) for i in chosen] if told else None

    def nats_per_note(self, network: Network) -> float:
        nats, notes = self.totals(network)
        return nats / notes

    def totals(self, network: Network, rank: int = 0, world: int = 1) -> tuple[float, float]:
        """(nats, notes) of every `world`-th piece from `rank` on."""
        labels = self._labels[rank::world] if self._labels else None
        nats = piece_nats(network, self._tokenizer, self._pieces[rank::world], labels)
        return float(sum(float(n.sum()) for n in nats)), float(sum(self._notes[rank::world]))


class Training(pl.LightningModule):
    """Cross-entropy of the tokens that are the network's own. What is given (controls, kept cells) is read,
    not predicted. `parallels`: weight of the unlikelihood of parallel fifths and octaves in music that avoids
    them. `endings`: weight of a token of a last bar.

    `weights`: to start from; `rank`: of the low-rank differences to learn, 0 to learn everything; `told`: the
    valid split is scored with its labels given; `collections`: only these of the valid split, where there are
    any.
    """

    def __init__(
        self,
        config: NetworkConfig,
        tokenizer: CellTokenizer,
        valid: Shard,
        *,
        matrix_rate: float,
        learning_rate: float,
        warmup: float,
        weight_decay: float,
        max_steps: int,
        weights: dict[str, Tensor] | None = None,
        rank: int = 0,
        told: bool = False,
        collections: Sequence[str] = (),
        parallels: float = 0.0,
        endings: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = Network(config)
        self._parallels, self._endings = parallels, endings
        self._first_pitch = tokenizer.first_id["Pitch"]
        if weights is not None:
            self.network.load_state_dict(weights)
        if rank:
            add_low_rank(self.network, rank)
        self._rank = rank
        self._matrix_rate, self._learning_rate, self._warmup, self._weight_decay, self._max_steps = (
            matrix_rate,
            learning_rate,
            warmup,
            weight_decay,
            max_steps,
        )
        self._valid = ValidPieces(valid, tokenizer, told, collections)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return MuonAdamW(
            self.network,
            matrix_rate=self._matrix_rate,
            rate=self._learning_rate,
            weight_decay=self._weight_decay,
            thin=self._rank > 0,
        )

    @property
    def progress(self) -> float:
        """Share of the run that is over."""
        return self.global_step / self._max_steps

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        optimizer = self.trainer.optimizers[0]
        assert isinstance(optimizer, MuonAdamW)
        optimizer.scale_rates(learning_rate_factor(self.progress, self._warmup))

    def loss(self, rows: Tensor, scored: Tensor) -> Tensor:
        """Mean nats of the scored tokens of rows (B, T + 1, WIDTH), tokens with their places."""
        # all shapes stay the same: oneDNN makes a kernel for each new one
        targets = torch.where(scored[:, 1:], rows[:, 1:, 0].long(), IGNORED)
        avoided = parallels(rows[:, :-1], self._first_pitch)
        unlikely = self._parallels * strict(avoided, rows[:, 1:, 0]).float()[:, None].expand_as(targets)
        return self.network.loss(rows[:, :-1], targets, IGNORED, self._weights(rows), avoided, unlikely)

    def _weights(self, rows: Tensor) -> Tensor:
        """How much each token that follows counts, (B, T)."""
        left = rows[:, :-1, 1 + COPIES + COLUMN["bars_left"]]
        return 1 + (self._endings - 1) * (left == entry("bars_left", 1)).float()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss, world = self.loss(*batch), self.trainer.world_size
        if (
            world > 1
        ):  # ranks hold unlike counts of scored tokens; DDP's mean of these is the mean over all tokens
            counted = (self._weights(batch[0]) * batch[1][:, 1:]).sum()
            loss = loss * counted * world / self.trainer.strategy.reduce(counted.clone(), reduce_op="sum")
        tokens = batch[1][:, 1:].numel() * world * (batch_idx + 1)
        self.log("train_loss", loss, prog_bar=True, sync_dist=world > 1)
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("tokens_per_s", tokens / max(time.monotonic() - self._epoch_start, 1e-9), prog_bar=True)
        return loss

    def on_train_epoch_start(self) -> None:
        self._epoch_start = time.monotonic()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        total = torch.tensor(
            self._valid.totals(self.network, self.global_rank, self.trainer.world_size), dtype=torch.float64
        )
        if self.trainer.world_size > 1:
            total = self.trainer.strategy.reduce(total.to(self.device), reduce_op="sum").cpu()
        nats, notes = total.tolist()
        self.log("valid_nats_per_note", nats / notes, prog_bar=True, batch_size=1)


class Windows(pl.LightningDataModule):
    """Epoch e holds rows [e * n, (e + 1) * n), the last one what is left of `most_steps`: with checkpoints at
    epoch ends, a resumed run goes on with the very next row. `batch_size` rows are a step of all processes
    together; Lightning deals them out, row by row."""

    def __init__(
        self,
        shard: Shard,
        tokenizer: CellTokenizer,
        *,
        context: int,
        batch_size: int,
        steps: int,
        most_steps: int,
        augmentation: Augmentation,
        mixture: Mixture,
        seed: int,
        weights: np.ndarray,
    ) -> None:
        super().__init__()
        self._shard, self._tokenizer, self._context = shard, tokenizer, context
        self._batch_size, self._steps, self._most_steps = batch_size, steps, most_steps
        self._augmentation, self._mixture, self._seed, self._weights = augmentation, mixture, seed, weights

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        assert self.trainer is not None
        first, world = self.trainer.current_epoch * self._steps, self.trainer.world_size
        rows = min(self._steps, self._most_steps - first) * self._batch_size
        data = WindowDataset(
            self._shard,
            self._tokenizer,
            self._context,
            self._augmentation,
            self._mixture,
            self._seed,
            first * self._batch_size,
            rows,
            self._weights,
        )
        return DataLoader(data, batch_size=self._batch_size // world)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        # one step: the pieces themselves are in the module
        return DataLoader(TensorDataset(torch.zeros(1)), batch_size=1)


def best_precision() -> str:
    """bf16-mixed where the processor multiplies bf16 in hardware (AMX or AVX512_BF16) or there is a GPU that
    does, else 32-true."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    if torch.backends.mps.is_available():
        return "32-true"
    flags = (
        torch.backends.cpu.get_cpu_capability(),
        torch.cpu._is_avx512_bf16_supported(),
        torch.cpu._is_amx_tile_supported(),
    )
    return "bf16-mixed" if flags[1] or flags[2] else "32-true"
