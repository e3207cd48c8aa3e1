"""Knobs of the training stages."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mixture(Section):
    whole: float = Field(ge=0)
    span: float = Field(ge=0)
    tracks: float = Field(ge=0)
    rectangle: float = Field(ge=0)

    @model_validator(mode="after")
    def _something(self) -> "Mixture":
        if self.whole + self.span + self.tracks + self.rectangle <= 0:
            raise ValueError(
                "all shares of the mixture are 0: give at least one of whole, span, tracks, rectangle"
            )
        return self


class TrainingKnobs(Section):
    """What both training stages have."""

    seed: int
    batch_size: int = Field(ge=1)
    max_steps: int = Field(ge=1)
    time_limit_min: float = Field(ge=0)
    matrix_rate: float = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    gradient_clip: float = Field(gt=0)
    mixture: Mixture
    transpose: int = Field(ge=0, le=11)
    stretch: float = Field(ge=0, le=1)
    ends: float = Field(ge=0, le=1)
    shortened: float = Field(ge=0, le=1)
    fresh: float = Field(ge=0, le=1)
    accompanied: float = Field(ge=0, le=1)
    parallels: float = Field(ge=0)
    endings: float = Field(gt=0)
    collection_temperature: float = Field(ge=0, le=2)
    rare_labels: float = Field(ge=0, le=1)
    often: dict[str, float]
    validate_every_steps: int = Field(ge=1)
    patience: int = Field(ge=1)
    precision: Literal["auto", "bf16-mixed", "32-true"]
    devices: int = Field(ge=1)
    nodes: int = Field(ge=1)
    strategy: Literal["auto", "ddp"]

    @field_validator("strategy", mode="before")
    @classmethod
    def _no_fsdp(cls, strategy: Any) -> Any:
        if str(strategy).startswith(("fsdp", "deepspeed")):
            raise ValueError(
                f"{strategy} shards the matrices that Muon orthogonalises whole: set strategy "
                f"to ddp (one copy a process; network.size large fits a GPU of 8 GB)"
            )
        return strategy

    @model_validator(mode="after")
    def _whole_batches(self) -> "TrainingKnobs":
        processes = self.devices * self.nodes
        if self.batch_size % processes:
            raise ValueError(
                f"batch_size {self.batch_size} counts the sequences of all {processes} "
                f"processes: make it a multiple"
            )
        if processes > 1 and self.strategy == "auto":
            raise ValueError(f"{processes} processes need strategy: ddp")
        return self


class Pretrain(TrainingKnobs):
    start: Literal["nothing", "base"]
    start_only: bool


class Finetune(TrainingKnobs):
    unconditioned: float = Field(ge=0, le=1)
    chords: float = Field(ge=0, le=1)
    form: float = Field(ge=0, le=1)
    most_bars: int = Field(ge=0)
    collections: tuple[str, ...]
    rehearsal: float = Field(ge=0, le=1)
    method: Literal["full", "lora"]
    rank: int = Field(ge=1)


class Align(Section):
    method: Literal["rloo", "dpo", "none"]
    seed: int
    max_steps: int = Field(ge=1)
    time_limit_min: float = Field(ge=0)
    bars: int = Field(ge=8)
    prompts: int = Field(ge=1)
    takes: int = Field(ge=2)
    kept: int = Field(ge=2)
    local: float = Field(ge=0)
    guidance: float = Field(ge=0, le=5)
    led: int = Field(ge=0)
    guided: float = Field(ge=0)
    sharp: float = Field(gt=0)
    pairs: int = Field(ge=0)
    rounds: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    beta: float = Field(ge=0)
    anchor: float = Field(ge=0)
    anchor_rows: int = Field(ge=1)
    least: float = Field(ge=0, lt=1)
    rewards: dict[str, float]
    people: float = Field(ge=0, le=1)
    looks: int = Field(ge=4)
    most_worse: float = Field(ge=0)
    most_fewer: float = Field(ge=0)
    matrix_rate: float = Field(ge=0)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(ge=0, lt=1)
    gradient_clip: float = Field(gt=0)
    patience: int = Field(ge=1)
    precision: Literal["auto", "bf16-mixed", "32-true"]
    fewest_new: int = Field(ge=1)
