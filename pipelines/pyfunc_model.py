"""The model as MLflow stores it (models from code): bundle in, MIDI out. MLflow runs this file; nothing else imports it."""

import base64
from pathlib import Path

import mlflow
from mlflow.pyfunc import PythonModel, PythonModelContext

from models.bundle import open_bundle
from models.compose import Composition, compose


class OstinatoModel(PythonModel):
    """`predict` takes records with the fields of models.compose.Composition and gives base64 MIDI for each."""

    def load_context(self, context: PythonModelContext) -> None:
        self._bundle = open_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: PythonModelContext, model_input):  # type: ignore[no-untyped-def]  # MLflow would make a schema of hints
        answers = []
        for row in model_input:
            for take in compose(self._bundle.decoder(8), self._bundle.tokenizer, Composition(**row), rewards=self._bundle.rewards):
                answers.append(base64.b64encode(take.midi).decode())
        return answers


mlflow.models.set_model(OstinatoModel())
