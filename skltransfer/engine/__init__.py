"""Where the time goes: frozen stages run once per sample and are remembered; what follows them is trained.

Knows torch and backbones. Must not know a scikit-learn estimator.
"""

from skltransfer.engine._activations import ActivationStore, folder_store, shared_store
from skltransfer.engine._address import Address
from skltransfer.engine._dataset import Activations
from skltransfer.engine._depth_choice import at_better_boundary
from skltransfer.engine._dtype import is_native, resolve_device, resolve_dtype
from skltransfer.engine._forward import recall, run_padded
from skltransfer.engine._frozen import FrozenStages
from skltransfer.engine._heads import ClassificationHead, Head, MultilabelHead, Probe, RegressionHead, solved_probe
from skltransfer.engine._intakes import INTAKES, Intake
from skltransfer.engine._multi_task import MultiTaskHead
from skltransfer.engine._networks import SleepingNetwork, TunedNetwork, new_network
from skltransfer.engine._pretraining import Pretrained, PretrainingTask, adapt_norms, adapt_to_texts
from skltransfer.engine._prototypes import PrototypeHead
from skltransfer.engine._reading import BadSamplePolicy
from skltransfer.engine._spec import NetworkSpec
from skltransfer.engine._training import TrainingPlan, joined_history, train
from skltransfer.engine._training_set import TrainingSet, canonical, split
from skltransfer.engine._tuning import run_tuned, tune
from skltransfer.engine._tuning_task import DomainShift, HoldOut, Resume, Tuned, TuningTask
from skltransfer.engine._whole import (
    WholeNetwork,
    frozen_reference,
    frozen_whole,
    tuned_reference,
    tuned_whole,
)

HEADS = {
    kind.__name__: kind for kind in (ClassificationHead, MultilabelHead, MultiTaskHead, PrototypeHead, RegressionHead)
}

__all__ = [
    "HEADS",
    "INTAKES",
    "ActivationStore",
    "Activations",
    "Address",
    "BadSamplePolicy",
    "ClassificationHead",
    "DomainShift",
    "FrozenStages",
    "Head",
    "HoldOut",
    "Intake",
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
    "WholeNetwork",
    "adapt_norms",
    "adapt_to_texts",
    "at_better_boundary",
    "canonical",
    "folder_store",
    "frozen_reference",
    "frozen_whole",
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
    "tuned_reference",
    "tuned_whole",
]
