"""The facts of a study: Optuna's study, its typed records, storage, locks and replicas."""

from mnist_lab.study._optuna import SingleWriterStorage, reopen_trial, use_fast_tpe, view
from mnist_lab.study.confirmation import Confirmation, read_confirmation
from mnist_lab.study.ledger import Ledger, Tracked, WarmPoint, is_untracked
from mnist_lab.study.lock import StudyLock, is_locked, lock_model, lock_study
from mnist_lab.study.names import confirm_name, is_confirmation, searched_name, study_name
from mnist_lab.study.open import (
    create_study,
    find_dataset,
    find_replicas,
    is_orphan,
    load_original_dataset,
    load_original_space,
    open_studies,
    open_study,
    searched_study,
    study_names,
)
from mnist_lab.study.readable import ReadableStorage
from mnist_lab.study.record import make_record
from mnist_lab.study.replicas import (
    PROMOTE_PARTS,
    Design,
    Replica,
    first_replicas,
    read_replicas,
    replica_of,
    second_replicas,
)
from mnist_lab.study.seeds import draw_seed, trial_seed
from mnist_lab.study.stopped import INTERRUPTED, Stopped, StopReason
from mnist_lab.study.storage import (
    OtherOptunaError,
    connect,
    require_writable,
    translate_storage_errors,
)
from mnist_lab.study.trials import FINISHED, STATES, TrialFacts

__all__ = [
    "FINISHED",
    "INTERRUPTED",
    "PROMOTE_PARTS",
    "STATES",
    "Confirmation",
    "Design",
    "Ledger",
    "OtherOptunaError",
    "ReadableStorage",
    "Replica",
    "SingleWriterStorage",
    "StopReason",
    "Stopped",
    "StudyLock",
    "Tracked",
    "TrialFacts",
    "WarmPoint",
    "confirm_name",
    "connect",
    "create_study",
    "draw_seed",
    "find_dataset",
    "find_replicas",
    "first_replicas",
    "is_confirmation",
    "is_locked",
    "is_orphan",
    "is_untracked",
    "load_original_dataset",
    "load_original_space",
    "lock_model",
    "lock_study",
    "make_record",
    "open_studies",
    "open_study",
    "read_confirmation",
    "read_replicas",
    "reopen_trial",
    "replica_of",
    "require_writable",
    "searched_name",
    "searched_study",
    "second_replicas",
    "study_name",
    "study_names",
    "translate_storage_errors",
    "trial_seed",
    "use_fast_tpe",
    "view",
]
