"""The forms that labelled images come in. A form is a ``Reader``: one file, one entry in ``READERS``.

A package adds one by the entry point ``mnist_lab.readers``, which names a ``Reader``.
"""

from mnist_lab.data.readers.find import READERS, WAYS, read_images, read_source
from mnist_lab.data.readers.reader import Pictures, RawPart, Reader, Source

__all__ = [
    "READERS",
    "WAYS",
    "Pictures",
    "RawPart",
    "Reader",
    "Source",
    "read_images",
    "read_source",
]
