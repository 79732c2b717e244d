"""``Blueprint``: the facts by which a trained model is built again without its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mnist_lab.data import ImageForm
from mnist_lab.spaces import Params


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """A space, a point of it, and the form of its models.

    ``space`` is a reference that ``load_space`` understands, ``sources`` the digest of its file and
    neighbours. ``images`` is the form of the data. ``form`` is a ``ModelForm`` as data; None for raw
    pixels in and probabilities out. ``members``: so many such models, joined by ``models.join``.
    """

    space: str
    sources: str
    params: Params
    images: ImageForm = field(default_factory=ImageForm)
    form: Mapping[str, Any] | None = None
    members: int = 1

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Blueprint:
        """Read the text of ``to_json``; keys of newer versions are left out."""
        known = {each.name for each in fields(cls)}
        kept = {key: value for key, value in json.loads(text).items() if key in known}
        return cls(**{**kept, "images": ImageForm.from_dict(kept.get("images"))})
