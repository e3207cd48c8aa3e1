"""params.yaml as frozen, validated objects. Read once at the edge of a stage; inside, functions take plain
arguments."""

import difflib
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from pipelines.running.params_training import Align, Finetune, Pretrain, Section

Licence = Literal["public-domain", "permissive", "share-alike", "unstated", "non-commercial", "restricted"]
LICENCE_CLASSES: tuple[str, ...] = get_args(Licence)  # most open first


class ParamsError(ValueError):
    """params.yaml is wrong; the message names the entry and what to write instead."""


class Source(Section):
    """One source of scores. `path` is a music21 collection, a folder or an archive (under data/scores), or an
    https URL."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    kind: Literal["music21", "folder", "archive"]
    path: str
    licence: Licence
    style: str = ""
    styles: dict[str, str] = {}  # style of the files whose name begins so, where it differs
    extended: bool = False
    composer: str = ""
    program: int = Field(0, ge=0, le=127)
    labels: str = ""
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")

    @model_validator(mode="after")
    def _checksum_for_downloads(self) -> "Source":
        if "://" in self.path and not self.path.startswith("https://"):
            raise ValueError(f"source {self.name}: only https:// can be downloaded")
        if "://" in self.path and not self.sha256:
            raise ValueError(
                f"source {self.name}: a download needs the sha256 of the archive, so that what "
                f"you train on is what you meant"
            )
        return self


class Ingest(Section):
    music21_version: str
    processes: int = Field(ge=0)
    timeout_s: float = Field(gt=0)
    max_pieces_per_source: int = Field(ge=0)
    max_file_mb: float = Field(gt=0)
    extended: bool
    sources: tuple[Source, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct_names(self) -> "Ingest":
        names = [source.name for source in self.sources]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ValueError(
                f"two sources are called {', '.join(doubled)}: every name is one Parquet file, so each "
                f"must differ"
            )
        return self


class Split(Section):
    train: float = Field(gt=0, lt=1)
    valid: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> "Split":
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            raise ValueError("train, valid and test must add up to 1")
        return self


class Prepare(Section):
    licences: tuple[Licence, ...]
    ticks_per_quarter: int = Field(ge=4, le=96)
    velocity: int = Field(ge=1, le=127)
    min_notes: int = Field(ge=1)
    max_notes: int
    min_bars: int = Field(ge=1)
    max_bars: int
    max_tracks: int = Field(ge=1, le=16)
    max_note_quarters: int = Field(ge=1)
    max_quantisation: float = Field(ge=0, le=0.5)
    max_performed: float = Field(ge=0, le=0.25)
    ngram: int = Field(ge=2, le=10)
    duplicate_jaccard: float = Field(gt=0, le=1)
    tune_families: tuple[str, ...]
    family_ngram: int = Field(ge=2, le=10)
    family_containment: float = Field(gt=0, le=1)
    split: Split
    seed: int


class Tokenise(Section):
    min_label_count: int = Field(ge=1)
    max_bars_control: int = Field(ge=1)


class NetworkSize(Section):
    size: Literal["tiny", "small", "base", "large"]
    context: int = Field(ge=64)
    dropout: float = Field(ge=0, lt=1)


class Machine(Section):
    threads: int = Field(ge=1)


class Embed(Section):
    seed: int
    inner: int = Field(ge=8)
    width: int = Field(ge=8)
    steps: int = Field(ge=1)
    batch: int = Field(ge=2)
    temperature: float = Field(gt=0)
    rate: float = Field(gt=0)


class Recommend(Section):
    seed: int
    factors: int = Field(ge=1)
    regularisation: float = Field(gt=0)
    iterations: int = Field(ge=1)
    fewest_events: int = Field(ge=0)
    simulated_listeners: int = Field(ge=0)
    faiss_past: int = Field(ge=0)


class Evaluate(Section):
    seed: int
    samples: int = Field(ge=2)
    sample_bars: int = Field(ge=1)
    temperature: float = Field(gt=0)
    top_p: float = Field(gt=0, le=1)
    guidance: float = Field(ge=0, le=10)
    form_bars: int = Field(ge=2)
    fill_regions: int = Field(ge=2)
    control_samples: int = Field(ge=1)
    control_rank: float = Field(ge=-1, le=1)
    control_exact: float = Field(ge=0, le=1)
    prompts: int = Field(ge=4)
    batch_size: int = Field(ge=2)
    ngram_orders: tuple[int, ...] = Field(min_length=1)
    listen: int = Field(ge=0)


LEAST = {
    "min_validity": 1.0,
    "min_below_ngram": 0.1,
    "min_overlap_gain": 0.0,
    "min_key_obedience": 0.4,
    "min_ends_on_tonic": 0.5,
    "min_chords": 0.7,
    "min_controls": 2,
    "min_align_distinct": 0.9,
    "min_align_overlap": -0.05,
    "min_align_reward": 0.0,
}
MOST = {"max_originality_excess": 0.2, "max_align_worse": 0.05, "max_align_copied": 0.2}


class Gate(Section):
    min_validity: float
    min_below_ngram: float
    min_overlap_gain: float
    min_key_obedience: float
    min_ends_on_tonic: float
    min_chords: float
    min_controls: int
    max_originality_excess: float
    max_latency_ratio: float
    confidence: float = Field(gt=0, lt=1)
    max_worse_nats: float
    max_align_worse: float = Field(ge=0)
    min_align_distinct: float = Field(ge=0)
    min_align_overlap: float
    max_align_copied: float
    min_align_reward: float
    bootstrap: int = Field(ge=100)

    def lowered(self) -> list[str]:
        """Floors that lie below those a release is held to: a profile for a quick look has such."""
        low = [
            f"{name} {getattr(self, name):g} below {x:g}"
            for name, x in LEAST.items()
            if getattr(self, name) < x
        ]
        return low + [
            f"{name} {getattr(self, name):g} above {x:g}"
            for name, x in MOST.items()
            if getattr(self, name) > x
        ]


class Package(Section):
    licences_served: tuple[Licence, ...]


class Drift(Section):
    alpha: float = Field(gt=0, lt=1)
    window_hours: float = Field(gt=0)
    min_rows: int = Field(ge=2)


class Rollout(Section):
    fewest: int = Field(ge=1)
    faults: float = Field(ge=0, le=1)
    slower: float = Field(gt=0)
    percentile: float = Field(ge=0, le=100)


class Log(Section):
    live_days: int = Field(ge=1)
    keep_days: int = Field(ge=0)


class Params(Section):
    ingest: Ingest
    prepare: Prepare
    tokenise: Tokenise
    machine: Machine
    network: NetworkSize
    pretrain: Pretrain
    finetune: Finetune
    align: Align
    embed: Embed
    recommend: Recommend
    evaluate: Evaluate
    gate: Gate
    package: Package
    drift: Drift
    rollout: Rollout
    log: Log
    profiles: dict[str, dict[str, Any]] = {}


def _fields_at(location: tuple[str | int, ...]) -> list[str]:
    """Names known where an unknown one was found."""
    model: Any = Params
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        arguments = [
            a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)
        ]
        model = arguments[0] if arguments else annotation
    return list(model.model_fields)


def _explain(error: ValidationError, path: Path) -> str:
    lines = [f"{path} is not valid:"]
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(problem["loc"])
            close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            lines.append(f"  {where}: unknown entry; {hint}")
        elif problem["type"] == "missing":
            lines.append(
                f"  {where}: missing; add it (the committed params.yaml shows its comment and default)"
            )
        else:
            lines.append(f"  {where}: {problem['msg']} (found {problem['input']!r})")
    return "\n".join(lines)


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate params.yaml. Raises ParamsError with every problem."""
    if not path.exists():
        raise ParamsError(f"{path.resolve()} does not exist: run from the top of the repository")
    try:
        return Params.model_validate(yaml.safe_load(path.read_text()) or {})
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        raise ParamsError(_explain(error, path)) from None
