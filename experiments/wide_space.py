"""A space of which the widest third needs more memory than a worker of 700 MiB has; see failures.py."""

from optuna.distributions import FloatDistribution, IntDistribution

from mnist_lab.spaces import search_space


@search_space(
    name="wide",
    version=1,
    description="two equal dense layers, up to 16384 units each",
    distributions={
        "units": IntDistribution(64, 16384, log=True),
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    },
    defaults={"units": 128, "learning_rate": 1e-3},
)
def wide(params, input_shape, classes):
    import keras

    model = keras.Sequential(
        [
            keras.Input(input_shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(params["units"], activation="relu"),
            keras.layers.Dense(params["units"], activation="relu"),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(params["learning_rate"]),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model
