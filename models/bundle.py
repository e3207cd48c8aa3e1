"""One candidate is one directory; the digest of its contents is its identity everywhere."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays

from models.align.rewards import Rewards
from models.align.rewards_file import load_rewards
from models.decoding.onnx_decoder import OnnxDecoder
from models.decoding.onnx_reader import OnnxReader
from models.fill.forms import Forms
from models.find.catalogue import Catalogue
from models.find.embedding import Encoder
from models.find.recommender import Recommender
from models.judge.style_classifier import Labeller, load_judges
from models.network.config import NetworkConfig
from models.tokens.build import load_tokenizer
from models.tokens.tokenizer import CellTokenizer
from music.analysis.similarity import RunIndex
from music.score.cells import BY_NAME

if TYPE_CHECKING:
    from models.network.decoder import Network


class BundleError(ValueError):
    """A bundle that cannot be used; the message says what to do."""


MANIFEST, FORMAT = "bundle.json", 7
WITH_PLACES = 7  # the first format whose networks read places as this version counts them
FILES = (
    "model.safetensors",
    "decoder.onnx",
    "config.json",
    "tokenizer.json",
    "profile.json",
    "forms.json",
    "melodies.safetensors",
    "judges.safetensors",
    "rewards.safetensors",
    "encoder.safetensors",
    "catalogue.safetensors",
    "recommender.safetensors",
    "evaluation.json",
    "lineage.json",
    "MODEL_CARD.md",
)


def file_digests(folder: Path, names: Iterable[str] = FILES) -> dict[str, str]:
    """sha256 of the files of a bundle."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BundleError(f"bundle {folder} lacks {', '.join(missing)}: run `dvc repro evaluate`")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def digest_of(files: dict[str, str]) -> str:
    """Identity of a bundle: sha256 over its sorted file names and digests, hexadecimal."""
    return hashlib.sha256("".join(f"{name} {files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def seal(folder: Path) -> str:
    """Write the manifest of a finished bundle and return its digest."""
    files = file_digests(folder)
    digest = digest_of(files)
    (folder / MANIFEST).write_text(
        json.dumps({"format": FORMAT, "digest": digest, "files": files}, indent=1) + "\n"
    )
    return digest


def save_melodies(path: Path, lines: list[np.ndarray], owners: list[int], pieces: list[str]) -> None:
    """Interval codes of the training melodies, int8, and the piece each belongs to."""
    cuts = np.cumsum([len(line) for line in lines])[:-1].astype(np.int64)
    arrays = {
        "intervals": np.concatenate(lines).astype(np.int8),
        "cuts": cuts,
        "owners": np.array(owners, dtype=np.int32),
    }
    save_arrays(arrays, path, metadata={"pieces": json.dumps(pieces)})


def decoding_threads() -> int:
    """OSTINATO_DECODING_THREADS, or 2. Raises ValueError where it is no positive number."""
    told = os.environ.get("OSTINATO_DECODING_THREADS", "2")
    if not told.isdecimal() or not int(told):
        raise ValueError(f"OSTINATO_DECODING_THREADS is {told!r}: give a number of threads, 1 or more")
    return int(told)


@dataclass(frozen=True)
class Bundle:
    """A sealed bundle on disk; parts are loaded when first used."""

    folder: Path
    digest: str

    @property
    def tag(self) -> str:
        """Short name for model stores and labels: the first 16 digits of the digest."""
        return self.digest[:16]

    @property
    def controls(self) -> frozenset[str]:
        """Controls that this model was found to obey (models/judge/controls.py); others are not offered."""
        return frozenset(self.evaluation["metrics"].get("controls_earned", BY_NAME))

    @cached_property
    def tokenizer(self) -> CellTokenizer:
        return load_tokenizer(self.folder / "tokenizer.json")

    @cached_property
    def network(self) -> "Network":
        """On torch, to train on and to export; the service has `reader`."""
        from safetensors.torch import load_file as load_tensors

        from models.network.decoder import Network

        self._check_places()
        network = Network(NetworkConfig(**self._json("config.json")))
        network.load_state_dict(load_tensors(self.folder / "model.safetensors"))
        return network.eval()

    @cached_property
    def reader(self) -> OnnxReader:
        """Likelihoods and hidden states."""
        self._check_places()
        config = NetworkConfig(**self._json("config.json"))
        return OnnxReader(load_file(self.folder / "model.safetensors"), config)

    def decoder(self, slots: int, threads: int | None = None) -> OnnxDecoder:
        """A back end of decoding with room for `slots` sequences; 8-bit where `evaluate` found that good
        enough. threads: default of `decoding_threads`."""
        self._check_places()
        return OnnxDecoder((self.folder / "decoder.onnx").read_bytes(), slots, threads or decoding_threads())

    @property
    def runs(self) -> bool:
        """Whether this version can run its network: those from before format 7 read other musical
        places, or none."""
        return int(self._json(MANIFEST)["format"]) >= WITH_PLACES

    def _check_places(self) -> None:
        """Raises BundleError for a network that this version cannot run."""
        if not self.runs:
            raise BundleError(
                f"bundle {self.tag} has format {self._json(MANIFEST)['format']}: its network does not read "
                "musical places as this version does. Train again with `ostinato repro`, and promote the "
                "first of the new ones with --force --reason"
            )

    def decoders(self, slots: int) -> list[OnnxDecoder]:
        """One for each decoding thread, of one thread each, with room for `slots` sequences (or a few more)
        in all: what a Batcher takes."""
        count = decoding_threads()
        return [self.decoder(-(-slots // count), threads=1) for _ in range(count)]

    @cached_property
    def forms(self) -> Forms:
        """Of the training tunes, for compositions of which none is asked."""
        return Forms.load(self.folder / "forms.json")

    @cached_property
    def _melodies(self) -> tuple[list[np.ndarray], list[int], list[str]]:
        with safe_open(self.folder / "melodies.safetensors", "numpy") as stored:
            lines = np.split(stored.get_tensor("intervals"), stored.get_tensor("cuts"))
            return lines, stored.get_tensor("owners").tolist(), json.loads(stored.metadata()["pieces"])

    @cached_property
    def run_index(self) -> RunIndex:
        """Melodies of the training pieces, for originality."""
        lines, owners, _ = self._melodies
        return RunIndex(lines, owners)

    @property
    def run_owners(self) -> list[str]:
        """Piece ids that `run_index` points into."""
        return self._melodies[2]

    @cached_property
    def judges(self) -> dict[str, Labeller]:
        """Classifiers of style and dance, where the training data had two or more."""
        return load_judges(self.folder / "judges.safetensors")

    @cached_property
    def rewards(self) -> Rewards:
        """What the network was aligned with, with the bundle's own judges: chooses among drafts."""
        return load_rewards(self.folder / "rewards.safetensors", self.judges, self.run_index)

    @cached_property
    def encoder(self) -> Encoder:
        """Passages to vectors."""
        return Encoder.load(self.folder / "encoder.safetensors")

    @cached_property
    def catalogue(self) -> Catalogue:
        """The pieces that came with the model."""
        return Catalogue.load(self.folder / "catalogue.safetensors")

    @cached_property
    def recommender(self) -> Recommender:
        return Recommender.load(self.folder / "recommender.safetensors")

    @cached_property
    def profile(self) -> dict[str, Any]:
        return self._json("profile.json")

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        return self._json("evaluation.json")

    @cached_property
    def lineage(self) -> dict[str, Any]:
        return self._json("lineage.json")

    def _json(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / name).read_text())
        return content


def open_bundle(folder: Path, older: bool = False) -> Bundle:
    """A bundle whose files are what its manifest says. older: also one of an older format, to be compared
    with and kept, not served. Raises BundleError."""
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"no bundle in {folder}: run `make repro` (or `dvc repro`) first")
    manifest = json.loads((folder / MANIFEST).read_text())
    if manifest["format"] > FORMAT or (manifest["format"] < FORMAT and not older):
        raise BundleError(
            f"bundle {folder} has format {manifest['format']}, this version serves {FORMAT}: "
            f"serve it with the version of Ostinato that made it, or build one with `ostinato repro`"
        )
    files = file_digests(folder, FILES if manifest["format"] == FORMAT else tuple(manifest["files"]))
    changed = [name for name, digest in files.items() if digest != manifest["files"].get(name)]
    if changed or digest_of(files) != manifest["digest"]:
        raise BundleError(
            f"bundle {folder} was changed after it was sealed "
            f"({', '.join(changed) or MANIFEST}): fetch or build it again"
        )
    return Bundle(folder, manifest["digest"])


def copy_bundle(bundle: Bundle, target: Path) -> None:
    """Copy the files of a bundle into an existing empty folder."""
    for name in (*json.loads((bundle.folder / MANIFEST).read_text())["files"], MANIFEST):
        shutil.copyfile(bundle.folder / name, target / name)
