"""Versions of the registered model: which there are, which is what, and their bundles."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.running.files import StageError
from pipelines.running.tracking import MODEL, home, open_experiment

if TYPE_CHECKING:
    from models.bundle import Bundle


@dataclass(frozen=True)
class Version:
    """One registered candidate."""

    number: int
    digest: str
    tags: dict[str, str]
    aliases: tuple[str, ...]
    run_id: str


def open_client() -> Any:
    open_experiment()
    from mlflow import MlflowClient

    return MlflowClient()


def versions(client: Any | None = None) -> list[Version]:
    """All versions, newest first."""
    client = client or open_client()
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


def by_alias(client: Any, alias: str) -> Version | None:
    return next((v for v in versions(client) if alias in v.aliases), None)


def champion() -> Version | None:
    return by_alias(open_client(), "champion")


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
