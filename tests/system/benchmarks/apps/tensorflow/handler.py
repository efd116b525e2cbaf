"""Classifies generated pictures with a small network whose weights are made from a seed."""

import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.keras.utils.set_random_seed(3)
MODEL = tf.keras.Sequential(
    [
        tf.keras.Input((28, 28, 1)),
        tf.keras.layers.Conv2D(8, 3, activation="relu"),
        tf.keras.layers.MaxPooling2D(),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(10, activation="softmax"),
    ]
)


def handler(event, context):
    pictures = np.random.default_rng(event["seed"]).random((event["count"], 28, 28, 1), dtype=np.float32)
    chances = MODEL(pictures) if event["count"] else tf.zeros((0, 10))
    if event.get("resize"):
        pictures = tf.image.resize(pictures, event["resize"])
    mean = tf.function(tf.math.reduce_mean)(pictures) if event.get("graph") else tf.math.reduce_mean(pictures)
    return {"classes": tf.argmax(chances, 1).numpy().tolist(), "mean": round(float(mean), 3)}
