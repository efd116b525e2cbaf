"""Forecasts from a fitted model that was pickled when the function was built."""

import os
import pickle

import numpy as np


def handler(event, context):
    with open(os.path.join(os.path.dirname(__file__), "fitted.pickle"), "rb") as file:
        fitted = pickle.load(file)
    if event.get("ask") == "summary":
        return fitted.summary().as_text().count("coef")
    if event.get("ask") == "interval":
        return np.round(fitted.conf_int(), 3).tolist()
    if event.get("ask") == "frame":
        return fitted.get_prediction(np.asarray(event["rows"])).summary_frame().round(3).to_json()
    return np.round(fitted.predict(np.asarray(event["rows"])), 4).tolist()
