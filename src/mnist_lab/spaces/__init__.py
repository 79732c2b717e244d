"""Search spaces: declared data plus a function that builds a Keras model. Listing imports no Keras."""

from mnist_lab.spaces.asking import Answers, AskingSpace, Author, recorded
from mnist_lab.spaces.corners import corners
from mnist_lab.spaces.files import digest_sources, source_files
from mnist_lab.spaces.question import Names, Question, answer_default, choose
from mnist_lab.spaces.registry import (
    get_space,
    is_file_reference,
    is_shipped,
    list_spaces,
    load_space,
    locate_file,
    run_description,
)
from mnist_lab.spaces.space import (
    Condition,
    Constraint,
    SearchSpace,
    parse_assignment,
    search_space,
)
from mnist_lab.spaces.survey import BUILDS
from mnist_lab.spaces.trust import find_trusted, is_trusted, trust
from mnist_lab.spaces.values import Params, ParamValue, contains, describe_range

__all__ = [
    "BUILDS",
    "Answers",
    "AskingSpace",
    "Author",
    "Condition",
    "Constraint",
    "Names",
    "ParamValue",
    "Params",
    "Question",
    "SearchSpace",
    "answer_default",
    "choose",
    "contains",
    "corners",
    "describe_range",
    "digest_sources",
    "find_trusted",
    "get_space",
    "is_file_reference",
    "is_shipped",
    "is_trusted",
    "list_spaces",
    "load_space",
    "locate_file",
    "parse_assignment",
    "recorded",
    "run_description",
    "search_space",
    "source_files",
    "trust",
]
