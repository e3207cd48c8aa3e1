"""The registry: versions of one registered model in MLflow, the aliases champion, challenger and previous,
and the promotion log.

Aliases keep no history, so every change is also a row of the promotion log. All changes happen under one
file lock.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pipelines.release.promotion_log import adopt_older, append, promotion_log
from pipelines.release.versions import Version, bundle_of, by_alias, open_client, versions
from pipelines.running.files import StageError
from pipelines.running.params import Gate
from pipelines.running.tracking import MODEL, git_commit, home, open_experiment

# loaded by the functions that use them: `ostinato serve` asks for the champion and should not wait for torch
if TYPE_CHECKING:
    from models.bundle import Bundle
    from pipelines.release.gate import Verdict


class NotPromoted(StageError):
    """The gate refused; the message holds the verdict."""

    def __init__(self, message: str, verdict: "Verdict") -> None:
        super().__init__(message)
        self.verdict = verdict


@contextmanager
def _locked() -> Iterator[Any]:
    """The client, with no other register, promote or rollback of this home at work."""
    home().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home() / "registry.lock", timeout=120):
            client = open_client()
            adopt_older(client)
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
    champion = by_alias(client, "champion")
    rows = promotion_log(client)
    last = rows[-1]["to"] if rows else None
    if champion and champion.number != last:
        if last:
            client.set_registered_model_alias(MODEL, "previous", str(last))
        append(
            client,
            action="recovered",
            before=last,
            to=champion.number,
            digest=champion.digest,
            reason="the alias had moved without a row: a command was killed, or someone used MLflow directly",
            verdict=None,
        )


def history() -> list[dict[str, Any]]:
    """The promotion log, oldest first."""
    client = open_client()
    adopt_older(client)
    return promotion_log(client)


def register(folder: Path) -> Version:
    """Register a sealed bundle; the same bundle twice gives the same version. New versions become the
    challenger."""
    import mlflow

    from models.bundle import copy_bundle, open_bundle

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
            with tempfile.TemporaryDirectory() as scratch:
                named = Path(scratch) / "bundle"  # MLflow keeps it under the name of its folder
                named.mkdir()
                copy_bundle(bundle, named)
                info = mlflow.pyfunc.log_model(
                    name="model",
                    python_model="pipelines/release/mlflow_model.py",
                    artifacts={"bundle": str(named)},
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
        _name_runs(client, bundle)
        return next(v for v in versions(client) if v.number == int(created.version))


def _name_runs(client: Any, bundle: "Bundle") -> None:
    """Tag the runs that trained a bundle's weights: `bundle_digest` is the newest, `bundles` are all of
    them."""
    for row in bundle.lineage["training"].values():
        weights = row.get("weights_sha256") if isinstance(row, dict) else None
        if weights:
            for run in client.search_runs([open_experiment()], f"tags.weights_sha256 = '{weights}'"):
                others = [tag for tag in run.data.tags.get("bundles", "").split(",") if tag]
                client.set_tag(run.info.run_id, "bundles", ",".join(dict.fromkeys([*others, bundle.tag])))
                client.set_tag(run.info.run_id, "bundle_digest", bundle.digest)


def promote(
    gate: Gate, number: int | None = None, *, force: bool = False, reason: str = "", improved: bool = False
) -> "tuple[Version, Verdict]":
    """Make a version (default: the newest) the champion if the gate lets it; returns it with the verdict.
    improved: alignment must have won reward, by an interval above 0.

    Raises NotPromoted with the verdict where the gate refuses and it is not forced; a forced promotion needs
    a reason and is logged.
    """
    from pipelines.release.gate import Verdict

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
        current = by_alias(client, "champion")
        stored = json.loads(chosen.tags.get("gate") or "{}")
        if current and current.number == chosen.number and stored:
            return chosen, Verdict.of(stored)
        verdict = _judge(client, gate, chosen, improved)
        if current and current.number == chosen.number:
            return chosen, verdict
        told: dict[str, Any] = {"before": current.number if current else None, "digest": chosen.digest}
        told |= {"verdict": json.loads(verdict.to_json())}
        if not verdict.passed and not force:
            to = current.number if current else None
            append(client, action="refused", to=to, candidate=chosen.number, reason=reason or "gate", **told)
            raise NotPromoted(
                f"{verdict}\nversion {chosen.number} was not promoted; the champion stays "
                f"{f'version {current.number}' if current else 'unset'}. To overrule: --force --reason '...'",
                verdict,
            )
        _move(client, chosen, current)
        why = reason or ("a quick look, by lowered floors" if verdict.lowered else "gate passed")
        append(
            client, action="promoted" if verdict.passed else "forced", to=chosen.number, reason=why, **told
        )
        return chosen, verdict


def judged(gate: Gate, version: Version, improved: bool = False) -> "Verdict":
    """The gate's verdict on a version, kept with it; nothing is promoted."""
    from pipelines.release.gate import Verdict

    with _locked() as client:
        stored = json.loads(version.tags.get("gate") or "{}")
        if "champion" in version.aliases and stored:
            return Verdict.of(stored)
        return _judge(client, gate, version, improved)


def _judge(client: Any, gate: Gate, version: Version, improved: bool) -> "Verdict":
    """Ask the gate about a version, against the champion and the best that ever was one; the verdict is kept
    with the version."""
    from pipelines.release.gate import judge

    listed = versions(client)
    current = next((v for v in listed if "champion" in v.aliases and v.number != version.number), None)
    best = best_ever(client, listed)
    others = {v.number: bundle_of(v, older=True) for v in (current, best) if v and v.number != version.number}
    verdict = judge(
        bundle_of(version),
        others.get(current.number) if current else None,
        gate,
        best=others.get(best.number) if best else None,
        improved=improved,
        held_to_all=bool(current and not json.loads(current.tags.get("gate") or "{}").get("lowered")),
    )
    client.set_model_version_tag(MODEL, str(version.number), "gate", verdict.to_json())
    return verdict


def best_ever(client: Any, listed: list[Version]) -> Version | None:
    """Of all that ever were champion, the version with the fewest nats per note: each promotion may cost a
    little, and many little steps must not lead far down."""
    was = {row["to"] for row in promotion_log(client) if row["action"] in ("promoted", "forced", "recovered")}
    able = [v for v in listed if v.number in was and v.tags.get("nats_per_note")]
    return min(able, key=lambda v: float(v.tags["nats_per_note"]), default=None)


def _move(client: Any, new: Version, old: Version | None) -> None:
    # first: killed here, the log tells what was before
    client.set_registered_model_alias(MODEL, "champion", str(new.number))
    if old:
        client.set_registered_model_alias(MODEL, "previous", str(old.number))
    if "challenger" in new.aliases:
        client.delete_registered_model_alias(MODEL, "challenger")


def rollback(reason: str) -> tuple[Version, Version]:
    """Champion and previous change places; returns (new champion, old champion)."""
    with _locked() as client:
        current, previous = by_alias(client, "champion"), by_alias(client, "previous")
        if not current or not previous or current.number == previous.number:
            raise StageError("there is no previous champion to go back to")
        _move(client, previous, current)
        why = reason or "rollback"
        told: dict[str, Any] = {
            "before": current.number,
            "to": previous.number,
            "digest": previous.digest,
            "verdict": None,
        }
        append(client, action="rolled back", reason=why, **told)
        return previous, current
