"""What is known: an Optuna study, its typed records, its storage, its locks and its replicas."""

from mnist_lab.study._optuna import SingleWriterStorage, use_fast_tpe, view
from mnist_lab.study.config import SweepConfig, parse_config, read_config
from mnist_lab.study.confirmation import Confirmation, ConfirmedTrial, read_confirmation
from mnist_lab.study.ledger import Tracked, count_foreign, find_trial, read_trial
from mnist_lab.study.lock import is_locked, lock_study
from mnist_lab.study.open import (
    create_study,
    is_ours,
    load_original_dataset,
    load_original_space,
    open_study,
    study_name,
)
from mnist_lab.study.record import Fingerprint, fingerprint, make_record, read_fingerprint
from mnist_lab.study.replicas import (
    SUFFIX,
    Design,
    confirm_name,
    find_replicas,
    is_confirmed,
    is_orphan,
    pair_of,
    searched_study,
)
from mnist_lab.study.seeds import draw_seed, trial_seed
from mnist_lab.study.storage import connect, require_writable, translate_storage_errors

__all__ = [
    "SUFFIX",
    "Confirmation",
    "ConfirmedTrial",
    "Design",
    "Fingerprint",
    "SingleWriterStorage",
    "SweepConfig",
    "Tracked",
    "confirm_name",
    "connect",
    "count_foreign",
    "create_study",
    "draw_seed",
    "find_replicas",
    "find_trial",
    "fingerprint",
    "is_confirmed",
    "is_locked",
    "is_orphan",
    "is_ours",
    "load_original_dataset",
    "load_original_space",
    "lock_study",
    "make_record",
    "open_study",
    "pair_of",
    "parse_config",
    "read_config",
    "read_confirmation",
    "read_fingerprint",
    "read_trial",
    "require_writable",
    "searched_study",
    "study_name",
    "translate_storage_errors",
    "trial_seed",
    "use_fast_tpe",
    "view",
]
