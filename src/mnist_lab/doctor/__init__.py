"""``doctor``: compare the state of this machine with the expected one, and repair it."""

from mnist_lab.doctor.examine import examine, repair
from mnist_lab.doctor.finding import Finding

__all__ = ["Finding", "examine", "repair"]
