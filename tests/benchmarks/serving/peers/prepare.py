"""Fit both models in a server's own environment, so that no pickle crosses versions: prepare.py ROWS.npz FOLDER."""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

data = np.load(sys.argv[1])
folder = Path(sys.argv[2])
expected = {}
for name, model in (
    ("logistic", LogisticRegression()),
    ("forest", RandomForestClassifier(100, random_state=0)),
):
    model.fit(data["rows"], data["labels"])
    joblib.dump(model, folder / f"{name}.joblib")
    expected[name] = model.predict(data["rows"]).tolist()
(folder / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
