"""``doctor``: compare what lies on this machine with what it ought to be, and mend it."""

from mnist_lab.doctor.examine import examine, repair
from mnist_lab.doctor.finding import Finding

__all__ = ["Finding", "examine", "repair"]
