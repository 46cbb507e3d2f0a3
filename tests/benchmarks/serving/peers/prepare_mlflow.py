"""Save the models of prepare.py as MLflow wants them: prepare_mlflow.py ROWS.npz FOLDER makes FOLDER/NAME.mlflow."""

import sys
from pathlib import Path

import joblib
import mlflow.sklearn  # type: ignore[import-not-found]

folder = Path(sys.argv[2])
for name in ("logistic", "forest"):
    mlflow.sklearn.save_model(
        joblib.load(folder / f"{name}.joblib"), folder / f"{name}.mlflow", serialization_format="cloudpickle"
    )
