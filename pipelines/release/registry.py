"""The registry: versions of one registered model in MLflow, the aliases champion, challenger and previous,
and the promotion log.

Aliases keep no history, so every change is also a line in `promotions.jsonl`. All changes happen under one
file lock.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pipelines.release.promotion_log import _append_log, promotion_log
from pipelines.running.files import StageError
from pipelines.running.params import Gate
from pipelines.running.tracking import git_commit, home, open_experiment

# loaded by the functions that use them: `ostinato serve` asks for the champion and should not wait for torch
if TYPE_CHECKING:
    from models.bundle import Bundle
    from pipelines.release.gate import Verdict

MODEL = "ostinato"
ALIASES = ("champion", "challenger", "previous")


class NotPromoted(StageError):
    """The gate refused; the message holds the verdict."""


@dataclass(frozen=True)
class Version:
    """One registered candidate."""

    number: int
    digest: str
    tags: dict[str, str]
    aliases: tuple[str, ...]
    run_id: str


def _client() -> Any:
    open_experiment()
    from mlflow import MlflowClient

    return MlflowClient()


@contextmanager
def _locked() -> Iterator[Any]:
    """The client, with no other register, promote or rollback of this home at work."""
    home().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home() / "registry.lock", timeout=120):
            client = _client()
            _mend_log(client)
            yield client
    except Timeout:
        raise StageError(
            "another register, promote or rollback has been at work for two minutes: wait for "
            "it, or end it, and run this again"
        ) from None


def _mend_log(client: Any) -> None:
    """A command killed between moving the alias and writing its line left the log behind; say so in the
    log."""
    champion = _alias(client, "champion")
    rows = promotion_log()
    last = rows[-1]["to"] if rows else None
    if champion and champion.number != last:
        if last:
            client.set_registered_model_alias(MODEL, "previous", str(last))
        _append_log(
            action="recovered",
            **{"from": last},
            to=champion.number,
            digest=champion.digest,
            reason=(
                "the alias had moved without a log line: a command was killed, or someone used MLflow "
                "directly"
            ),
            evidence={},
        )


def versions(client: Any | None = None) -> list[Version]:
    """All versions, newest first."""
    client = client or _client()
    from mlflow.exceptions import MlflowException

    try:
        registered = client.get_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return []
        raise
    alias_of: dict[int, list[str]] = {}
    for alias, number in registered.aliases.items():
        alias_of.setdefault(int(number), []).append(alias)
    found = client.search_model_versions(f"name='{MODEL}'")
    listed = [
        Version(
            int(v.version),
            v.tags.get("bundle_digest", ""),
            dict(v.tags),
            tuple(sorted(alias_of.get(int(v.version), []))),
            v.run_id or "",
        )
        for v in found
    ]
    return sorted(listed, key=lambda v: -v.number)


def _alias(client: Any, alias: str) -> Version | None:
    return next((v for v in versions(client) if alias in v.aliases), None)


def champion() -> Version | None:
    return _alias(_client(), "champion")


def named(name: str) -> Version:
    """A version by its number or alias. Raises StageError naming those there are."""
    listed = versions()
    found = next((v for v in listed if name == str(v.number) or name in v.aliases), None)
    if found is None:
        known = [f"{v.number} ({','.join(v.aliases)})" if v.aliases else str(v.number) for v in listed]
        raise StageError(f"there is no version or alias {name!r}; there are {', '.join(known) or 'none yet'}")
    return found


def champion_bundle() -> "tuple[Version, Bundle]":
    """The champion and its bundle. Raises StageError where there is none yet."""
    version = champion()
    if version is None:
        raise StageError(
            "there is no champion yet: run `make repro`, or `ostinato register` and `ostinato promote` "
            "after `dvc repro`"
        )
    return version, bundle_of(version)


def settled(version: Version) -> str:
    """Why there is nothing to decide about a version, "" where there is: it is champion, was rolled back, or
    was refused against this champion."""
    current = champion()
    if current is None:
        return ""
    if current.number == version.number:
        return f"champion: version {version.number} already"
    from pipelines.release.gate import Verdict

    judged = json.loads(version.tags.get("gate") or "{}")
    if "previous" in version.aliases or judged.get("champion") == current.digest:
        verdict = f"{Verdict.of(judged)}\n" if judged else ""
        return (
            f"{verdict}version {version.number} was judged before; the champion stays version "
            f"{current.number}. To change that: ostinato promote --version {version.number}"
        )
    return ""


def bundle_of(version: Version, older: bool = False) -> "Bundle":
    """The bundle of a version, fetched from the store once and checked against its digest. older: also one of
    an older format, to compare with."""
    import mlflow

    from models.bundle import copy_bundle, open_bundle

    target = home() / "bundles" / version.digest[:16]
    if not (target / "bundle.json").exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched = Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{MODEL}/{version.number}/artifacts/bundle"
            )
        )
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        partial.mkdir(parents=True, exist_ok=True)
        copy_bundle(open_bundle(fetched, older=True), partial)
        try:
            partial.rename(target)
        except OSError:  # another process was first
            import shutil

            shutil.rmtree(partial)
    bundle = open_bundle(target, older)
    if bundle.digest != version.digest:
        raise StageError(
            f"the store holds another bundle for version {version.number} than its tag says: register "
            f"the bundle again"
        )
    return bundle


def register(folder: Path) -> Version:
    """Register a sealed bundle; the same bundle twice gives the same version. New versions become the
    challenger."""
    import mlflow

    from models.bundle import open_bundle

    bundle = open_bundle(folder)
    with _locked() as client:
        known = next((v for v in versions(client) if v.digest == bundle.digest), None)
        if known:
            return known
        lock = Path("dvc.lock")
        metrics = bundle.evaluation["metrics"]
        tags = {
            "bundle_digest": bundle.digest,
            "git_commit": git_commit(),
            "dvc_lock_digest": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "",
            "data_digest": bundle.lineage["data_digest"],
            "licence": bundle.lineage["licence"],
            "nats_per_note": str(metrics["nats_per_note"]),
            "gate": "",
        }
        with mlflow.start_run(experiment_id=open_experiment(), run_name=f"bundle {bundle.tag}") as run:
            mlflow.set_tags({"DVC_STAGE": "evaluate", "bundle_digest": bundle.digest})
            mlflow.log_metrics(
                {
                    "nats_per_note": metrics["nats_per_note"],
                    "ngram_nats_per_note": metrics["ngram_nats_per_note"],
                    "validity": metrics["validity"],
                    "overlap_gain": metrics["overlap_gain"],
                }
            )
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model="pipelines/release/mlflow_model.py",
                artifacts={"bundle": str(folder)},
                code_paths=["music", "models"],
                pip_requirements=["torch", "miditok", "symusic", "safetensors", "numpy", "scipy"],
            )
        try:
            client.create_registered_model(MODEL)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        created = client.create_model_version(
            MODEL, info.model_uri, run.info.run_id, tags=tags, model_id=info.model_id
        )
        client.set_registered_model_alias(MODEL, "challenger", created.version)
        return next(v for v in versions(client) if v.number == int(created.version))


def promote(
    gate: Gate, number: int | None = None, *, force: bool = False, reason: str = ""
) -> "tuple[Version, Verdict]":
    """Make a version (default: the newest) the champion if the gate lets it; returns it with the verdict.

    Raises NotPromoted with the verdict where the gate refuses and it is not forced; a forced promotion needs
    a reason and is logged.
    """
    from pipelines.release.gate import Verdict, judge

    if force and not reason.strip():
        raise StageError("--force needs --reason: the promotion log must say why the gate was overruled")
    with _locked() as client:
        listed = versions(client)
        if not listed:
            raise StageError(
                "no version is registered yet: run `make repro`, or `ostinato register` after `dvc repro`"
            )
        chosen = next((v for v in listed if v.number == number), None) if number else listed[0]
        if chosen is None:
            raise StageError(
                f"there is no version {number}; known are {', '.join(str(v.number) for v in listed)}"
            )
        current = _alias(client, "champion")
        if current and current.number == chosen.number:
            stored = json.loads(chosen.tags.get("gate") or "{}")
            return chosen, Verdict.of(stored) if stored else judge(bundle_of(chosen), None, gate)
        verdict = judge(bundle_of(chosen), bundle_of(current, older=True) if current else None, gate)
        client.set_model_version_tag(MODEL, str(chosen.number), "gate", verdict.to_json())
        if not verdict.passed and not force:
            _append_log(
                action="refused",
                **{"from": current.number if current else None},
                to=current.number if current else None,
                candidate=chosen.number,
                digest=chosen.digest,
                reason=reason or "gate",
                evidence=json.loads(verdict.to_json()),
            )
            raise NotPromoted(
                f"{verdict}\nversion {chosen.number} was not promoted; the champion stays "
                f"{f'version {current.number}' if current else 'unset'}. To overrule: --force --reason '...'"
            )
        _move(client, chosen, current)
        _append_log(
            action="promoted" if verdict.passed else "forced",
            **{"from": current.number if current else None},
            to=chosen.number,
            digest=chosen.digest,
            reason=reason or "gate passed",
            evidence=json.loads(verdict.to_json()),
        )
        return chosen, verdict


def judged(gate: Gate, version: Version) -> "Verdict":
    """The gate's verdict on a version, kept with it; nothing is promoted."""
    from pipelines.release.gate import Verdict, judge

    with _locked() as client:
        current = _alias(client, "champion")
        stored = json.loads(version.tags.get("gate") or "{}")
        if current and current.number == version.number and stored:
            return Verdict.of(stored)
        against = bundle_of(current, older=True) if current and current.number != version.number else None
        verdict = judge(bundle_of(version), against, gate)
        client.set_model_version_tag(MODEL, str(version.number), "gate", verdict.to_json())
        return verdict


def _move(client: Any, new: Version, old: Version | None) -> None:
    client.set_registered_model_alias(
        MODEL, "champion", str(new.number)
    )  # first: killed here, the log tells what was before
    if old:
        client.set_registered_model_alias(MODEL, "previous", str(old.number))
    if "challenger" in new.aliases:
        client.delete_registered_model_alias(MODEL, "challenger")


def rollback(reason: str) -> tuple[Version, Version]:
    """Champion and previous change places; returns (new champion, old champion)."""
    with _locked() as client:
        current, previous = _alias(client, "champion"), _alias(client, "previous")
        if not current or not previous or current.number == previous.number:
            raise StageError("there is no previous champion to go back to")
        _move(client, previous, current)
        _append_log(
            action="rolled back",
            **{"from": current.number},
            to=previous.number,
            digest=previous.digest,
            reason=reason or "rollback",
            evidence={},
        )
        return previous, current
