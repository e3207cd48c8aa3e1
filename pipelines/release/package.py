"""Package: the champion's bundle in the BentoML model store under its digest, and a bento pinned to it with
serving's needs only."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.running.files import StageError
from pipelines.running.tracking import home

if TYPE_CHECKING:
    from models.bundle import Bundle

NAME = "ostinato"
PACKAGES = ("music", "models", "serving", "monitoring")
NOT_PACKED = ("__pycache__", "prometheus", "alertmanager", "grafana", "kubernetes", "nginx.conf")
TRAINING_ONLY = (
    "models/network/decoder.py",
    "models/network/fused.py",
    "models/network/huggingface.py",
    "models/decoding/torch_decoder.py",
    "models/tokens/vocabulary.py",
    "models/network/training.py",
    "models/network/optimizer.py",
    "models/tokens/windows.py",
    "models/network/lora.py",
    "models/find/contrastive.py",
    "models/find/recommender_training.py",
    "models/find/simulated_listeners.py",
    "models/judge/obedience.py",
    "models/judge/evaluation.py",
    "models/judge/tasks.py",
    "models/align/rollouts.py",
    "models/align/training.py",
    "models/align/rounds.py",
    "models/align/report.py",
    "monitoring/archive.py",
    "music/writing/pianoroll.py",
    "music/analysis/overlap.py",
)
COMPILERS = ("ca-certificates gnupg2 bash build-essential git", "ca-certificates bash")
HEALTH = (
    'HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD python -c "import '
    "urllib.request as u; u.urlopen('http://127.0.0.1:3000/readyz', timeout=2)\"\n"
)


def bento_environment() -> dict[str, str]:
    """Environment of every bentoml command: no telemetry, and our own home unless BENTOML_HOME is set."""
    environment = dict(os.environ)
    environment.setdefault("BENTOML_HOME", str(home() / "bentoml"))
    environment["BENTOML_DO_NOT_TRACK"] = "True"
    return environment


def serving_environment(port: int) -> dict[str, str]:
    """The same for a service: a home of its own that shares the stores. BentoML keeps counters in its home
    and clears them when a service starts, also those of another."""
    environment = bento_environment()
    stores, own = Path(environment["BENTOML_HOME"]), home() / "services" / str(port)
    own.mkdir(parents=True, exist_ok=True)
    for name in ("bentos", "models"):
        (stores / name).mkdir(parents=True, exist_ok=True)
        (own / name).unlink(missing_ok=True)
        (own / name).symlink_to((stores / name).resolve())
    environment["BENTOML_HOME"] = str(own.resolve())
    return environment


def _bentoml() -> Any:
    """The bentoml module, pointed at our home before it is first imported."""
    os.environ.update(bento_environment())
    Path(os.environ["BENTOML_HOME"]).mkdir(parents=True, exist_ok=True)
    import bentoml

    return bentoml


def bento_tag_of(digest: str) -> str:
    """Tag of the bento of a bundle with the code as it is now."""
    return f"{NAME}:{digest[:16]}-{_code_digest()}"


def is_built(bento_tag: str) -> bool:
    """True where the store has the whole bento; looks at the file system, because loading bentoml takes
    seconds."""
    folder = Path(bento_environment()["BENTOML_HOME"]) / "bentos" / NAME / bento_tag.partition(":")[2]
    dockerfile = folder / "env/docker/Dockerfile"
    return dockerfile.is_file() and "HEALTHCHECK" in dockerfile.read_text()


def store_model(bundle: "Bundle") -> str:
    """Put a bundle in the model store once; returns its tag `ostinato:<digest16>`."""
    bentoml = _bentoml()
    tag = f"{NAME}:{bundle.tag}"
    try:
        bentoml.models.get(tag)
    except bentoml.exceptions.NotFound:
        with bentoml.models.create(
            tag, labels={"digest": bundle.digest[:63], "licence": bundle.lineage["licence"]}
        ) as model:
            from models.bundle import copy_bundle

            copy_bundle(bundle, Path(model.path))
    return tag


def check_licence(licence: str, licences_served: tuple[str, ...]) -> None:
    """Raises StageError where a licence class may not be served."""
    if licence not in licences_served:
        raise StageError(
            f"the bundle's licence class is {licence}; package.licences_served lets "
            f"{', '.join(licences_served)}. Train on other data (prepare.licences) or change it"
        )


def build(bundle: "Bundle", licences_served: tuple[str, ...], version: str) -> str:
    """Build the bento of a bundle once; returns its tag. Raises StageError where the licence class may not be
    served."""
    check_licence(bundle.lineage["licence"], licences_served)
    bentoml = _bentoml()
    tag = store_model(bundle)
    bento_tag = bento_tag_of(bundle.digest)
    try:
        # again, for a build that was killed before its last step
        _slim_and_checked(Path(bentoml.bentos.get(bento_tag).path) / "env/docker/Dockerfile")
        return bento_tag
    except bentoml.exceptions.NotFound:
        pass
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        for package in PACKAGES:
            shutil.copytree(package, context / package, ignore=shutil.ignore_patterns(*NOT_PACKED))
        for name in TRAINING_ONLY:
            (context / name).unlink()
        (context / "serving/model_tag.txt").write_text(tag + "\n")
        (context / "serving/model_version.txt").write_text(version + "\n")
        (context / "bentofile.yaml").write_text("service: serving.service:Ostinato\ninclude: ['*']\n")
        command = [
            sys.executable,
            "-m",
            "bentoml",
            "build",
            str(context),
            "--version",
            bento_tag.partition(":")[2],
        ]
        done = subprocess.run(command, cwd=context, env=bento_environment(), capture_output=True, text=True)
    if done.returncode:
        raise StageError(f"bentoml build failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    _slim_and_checked(Path(bentoml.bentos.get(bento_tag).path) / "env/docker/Dockerfile")
    return bento_tag


def _code_digest() -> str:
    """Eight digits over the packaged code: a changed service is another bento of the same model."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted(Path(package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _slim_and_checked(dockerfile: Path) -> None:
    """BentoML's Dockerfile without compilers (all packages are wheels), with a health check."""
    text = dockerfile.read_text().replace(*COMPILERS)
    if "HEALTHCHECK" not in text:
        head, entry, tail = text.rpartition("ENTRYPOINT")
        dockerfile.write_text(head + HEALTH + "\n" + entry + tail)


def image_context(bento_tag: str) -> Path:
    """The bento with its model, unpacked as a Docker build context at `<home>/image`; compose.yaml builds
    from it."""
    bentoml = _bentoml()
    for name in (
        "log",
        "catalogue",
    ):  # compose.yaml mounts them: made by us, so that docker does not make them as root
        (home() / name).mkdir(parents=True, exist_ok=True)
    (home() / "log").chmod(0o777)  # the container's user writes there
    target = home() / "image"
    stamp = target / ".bento_tag"
    if stamp.exists() and stamp.read_text() == bento_tag:
        return target
    partial = target.with_name("image.part")
    shutil.rmtree(partial, ignore_errors=True)
    bento = bentoml.bentos.get(bento_tag)
    shutil.copytree(bento.path, partial)
    for info in bento.info.all_models:
        model = bentoml.models.get(info.tag)
        folder = partial / "models" / info.tag.name / str(info.tag.version)
        shutil.copytree(model.path, folder, dirs_exist_ok=True)
        (partial / "models" / info.tag.name / "latest").write_text(str(info.tag.version))
    (partial / ".bento_tag").write_text(bento_tag)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target
