"""vetiver; with CHECKED=1 it checks each row against its prototype."""

import os

import joblib
import numpy as np
import pandas as pd
from vetiver import VetiverAPI, VetiverModel  # type: ignore[import-not-found]

rows = pd.DataFrame(np.load(os.environ["ROWS"])["rows"], columns=[f"x{at}" for at in range(20)])
model = joblib.load(os.environ["MODEL"])
vetiver_model = VetiverModel(model, "model", prototype_data=rows)
app = VetiverAPI(vetiver_model, check_prototype=os.environ["CHECKED"] == "1").app
