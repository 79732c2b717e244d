"""The parameters that mnist-lab asks for, against those that KerasTuner's own oracle finds.

``python experiments/public_models/oracle.py > oracle.json`` first, then
``python experiments/public_models/asked.py oracle.json``: each model is built 200 times at seeded
points, and where its author has a ``fit``, that is tried with one batch at 30 of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from mnist_lab.data import load_dataset
from mnist_lab.spaces.asking import Answers
from mnist_lab.spaces.question import Question
from mnist_lab.spaces.registry import load_space
from mnist_lab.spaces.survey import draw
from mnist_lab.training import find_form

HERE = Path(__file__).parent
MODELS = {
    "kt_getting_started": "kt_getting_started.py:build_model",
    "kt_batch_size": "kt_batch_size.py:MyHyperModel",
    "kt_custom_loop": "kt_custom_loop.py:MyHyperModel",
    "kt_conditional_scope": "kt_conditional_scope.py:MyHyperModel",
    "kt_conditional_scope_2": "kt_conditional_scope.py:ConditionalHyperModel",
    "kt_helloworld": "kt_helloworld.py:hypermodel",
    "handson_ml3": "handson_ml3.py:MyClassificationHyperModel",
    "handson_ml3_2": "handson_ml3.py:build_model",
}
BUILDS, FITS = 200, 30


def asked_by(reference: str) -> set[str]:
    import keras

    space, split, names = load_space(reference), load_dataset().train, set()
    for number in range(BUILDS):
        random = np.random.default_rng([number])

        def ask(question: Question, random: np.random.Generator = random):
            names.add(question.name)
            return draw(question, random)

        author = space.open(Answers(ask=ask))
        author.build((28, 28), 10)
        if author.fit is not None and number < FITS:
            find_form(lambda author=author: author.build((28, 28), 10), split, 10, fit=author.fit)
        keras.utils.clear_session(free_memory=False)
    return names


if __name__ == "__main__":
    theirs = json.loads(Path(sys.argv[1]).read_text())
    for name, reference in MODELS.items():
        ours = asked_by(f"{HERE / reference}")
        same = "equal" if ours == set(theirs[name]) else f"differ by {ours ^ set(theirs[name])}"
        print(f"{name}: {len(ours)} parameters, {same}", flush=True)
