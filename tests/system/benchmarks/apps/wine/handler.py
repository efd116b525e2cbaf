"""Trains a classifier of wines on a table that is part of scikit-learn, and classifies bottles."""

import io

import pandas as pd
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def handler(event, context):
    data = load_wine(as_frame=True)
    columns = event["columns"]
    learnt, asked, wanted, known = train_test_split(data.data[columns], data.target, random_state=event["seed"])
    model = make_pipeline(StandardScaler(), RandomForestClassifier(event["trees"], random_state=0))
    model.fit(learnt, wanted)
    bottles = pd.read_csv(io.StringIO(event["bottles"]), names=columns)
    return {
        "score": round(model.score(asked, known), 5),
        "kinds": [str(data.target_names[kind]) for kind in model.predict(bottles)],
        "chances": model.predict_proba(bottles).round(4).tolist(),
    }
