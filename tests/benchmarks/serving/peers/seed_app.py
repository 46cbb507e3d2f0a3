"""The seed's design: FastAPI, a pydantic model for the body and one for the answer, model.predict in the route."""

import os

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["MODEL"])


class Row(BaseModel):
    features: list[float]


class Prediction(BaseModel):
    prediction: list[int]


@app.post("/predict")
async def predict(row: Row) -> Prediction:
    return Prediction(prediction=model.predict([row.features]).tolist())
