"""Search spaces: declared data plus a function that builds a Keras model. Listing imports no Keras."""

from mnist_lab.spaces.registry import get_space, list_spaces
from mnist_lab.spaces.space import Condition, Constraint, SearchSpace, search_space

__all__ = ["Condition", "Constraint", "SearchSpace", "get_space", "list_spaces", "search_space"]
