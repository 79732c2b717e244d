"""What a worker leaves in a trial's folder."""

MODEL_FILE = "model.keras"
ARTIFACTS = "artifacts"  # the folder whose content becomes the artifacts of the trial's run
CHECKPOINTS = "checkpoints"
PREDICTIONS = "predictions.npz"  # what the figures are drawn from, until they are
