"""Where the time goes: frozen stages run once per sample and are remembered; what follows them is trained.

Knows torch and backbones. Must not know a scikit-learn estimator.
"""

import pathlib

from skltransfer.engine.depth_choice import at_better_boundary
from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.inference.dtypes import is_native, resolve_device, resolve_dtype
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.reading import BadSamplePolicy
from skltransfer.engine.inference.recall import recall, run_padded
from skltransfer.engine.job import DomainShift, HoldOut, Resume, Tuned, TuningTask
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.tuned import SleepingNetwork, TunedNetwork, new_network
from skltransfer.engine.pretraining import Pretrained, PretrainingTask, adapt_norms, adapt_to_texts
from skltransfer.engine.storing.key import Address
from skltransfer.engine.storing.memory import ActivationStore, folder_store, shared_store
from skltransfer.engine.tasks.classification import ClassificationHead
from skltransfer.engine.tasks.multi_task import MultiTaskHead
from skltransfer.engine.tasks.multilabel import MultilabelHead
from skltransfer.engine.tasks.probe import Probe
from skltransfer.engine.tasks.prototypes import PrototypeHead
from skltransfer.engine.tasks.regression import RegressionHead
from skltransfer.engine.tasks.task import Head, solved_probe
from skltransfer.engine.training.loop import TrainingPlan, joined_history, train
from skltransfer.engine.training.training_set import TrainingSet, canonical, split
from skltransfer.engine.tuning import run_tuned, tune

__path__.append(str(pathlib.Path(__file__).parent.with_name("_moved") / "engine"))  # until version 0.2

HEADS = {
    kind.__name__: kind for kind in (ClassificationHead, MultilabelHead, MultiTaskHead, PrototypeHead, RegressionHead)
}

__all__ = [
    "HEADS",
    "ActivationStore",
    "Activations",
    "Address",
    "BadSamplePolicy",
    "ClassificationHead",
    "DomainShift",
    "FrozenStages",
    "Head",
    "HoldOut",
    "MultiTaskHead",
    "MultilabelHead",
    "NetworkSpec",
    "Pretrained",
    "PretrainingTask",
    "Probe",
    "PrototypeHead",
    "RegressionHead",
    "Resume",
    "SleepingNetwork",
    "TrainingPlan",
    "TrainingSet",
    "Tuned",
    "TunedNetwork",
    "TuningTask",
    "adapt_norms",
    "adapt_to_texts",
    "at_better_boundary",
    "canonical",
    "folder_store",
    "is_native",
    "joined_history",
    "new_network",
    "recall",
    "resolve_device",
    "resolve_dtype",
    "run_padded",
    "run_tuned",
    "shared_store",
    "solved_probe",
    "split",
    "train",
    "tune",
]
