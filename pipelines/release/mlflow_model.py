"""The model as MLflow stores it (models from code): bundle in, MIDI out. MLflow runs this file; nothing else
imports it."""

import base64
from pathlib import Path

import mlflow
from mlflow.pyfunc import PythonModel, PythonModelContext

from models.bundle import open_bundle
from models.fill.compose import Composition, compose


class OstinatoModel(PythonModel):
    """`predict` takes records with the fields of models.fill.compose.Composition and gives base64 MIDI for
    each."""

    def load_context(self, context: PythonModelContext) -> None:
        self._bundle = open_bundle(Path(context.artifacts["bundle"]))

    # MLflow would make a schema of hints
    def predict(self, context: PythonModelContext, model_input):  # type: ignore[no-untyped-def]
        answers = []
        for row in model_input:
            for take in compose(
                self._bundle.decoder(8),
                self._bundle.tokenizer,
                Composition(**row),
                worth=self._bundle.rewards.of_answer,
                forms=self._bundle.forms,
            ):
                answers.append(base64.b64encode(take.midi).decode())
        return answers


mlflow.models.set_model(OstinatoModel())
