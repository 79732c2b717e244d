"""The one-cycle learning rate, as a schedule that Keras's optimizers read step by step."""

from __future__ import annotations

import keras

# Smith & Topin 2019, "Super-Convergence": up, then down to nothing, over the whole training. A quarter
# of the steps up, from a tenth of the peak.
WARM_UP = 0.25
START = 0.1


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate that rises linearly from a tenth of ``peak``, then falls to 0 at ``steps``."""

    def __init__(self, peak: float, steps: int) -> None:
        self.peak = peak
        self.steps = steps

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        progress = keras.ops.cast(step, "float32") / self.steps
        rising = START + (1 - START) * progress / WARM_UP
        falling = (1 - progress) / (1 - WARM_UP)
        return self.peak * keras.ops.maximum(keras.ops.minimum(rising, falling), 0.0)

    def get_config(self) -> dict[str, float]:
        return {"peak": self.peak, "steps": self.steps}
