"""Features of a sound; the package loads its parts lazily, from stub files."""

import librosa
import numpy as np


def handler(event, context):
    rate = 8000
    sound = np.sin(2 * np.pi * event["hertz"] * np.arange(rate) / rate).astype(np.float32)
    if event.get("ask") == "tempo":
        return round(float(np.atleast_1d(librosa.feature.tempo(y=sound, sr=rate))[0]), 2)
    if event.get("ask") == "mfcc":
        return np.round(librosa.feature.mfcc(y=sound, sr=rate, n_mfcc=3).mean(axis=1), 1).tolist()
    if event.get("ask") == "pitch":
        return round(float(np.median(librosa.yin(sound, fmin=100, fmax=1000, sr=rate))), 0)
    return round(float(librosa.feature.spectral_centroid(y=sound, sr=rate).mean()), 1)
