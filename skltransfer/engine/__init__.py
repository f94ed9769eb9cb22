"""Where the time goes: frozen stages run once per sample and are remembered; what follows them is trained.

Knows torch and backbones. Must not know a scikit-learn estimator.
"""

import pathlib

from skltransfer.engine.depth_choice import at_better_boundary
from skltransfer.engine.inference.activations import Activations
from skltransfer.engine.inference.dtypes import DTYPE_NAMES, DTYPES, INT8, is_native, resolve_device, resolve_dtype
from skltransfer.engine.inference.frozen import FrozenStages
from skltransfer.engine.inference.quantization import ENOUGH, checked_cosine, is_compared
from skltransfer.engine.inference.reading import BadSamplePolicy, Complaints
from skltransfer.engine.inference.recall import recall
from skltransfer.engine.inference.rows import run_padded
from skltransfer.engine.inference.runtime import EAGER, Runtime
from skltransfer.engine.inference.runtime_choice import RUNTIMES, resolve_runtime
from skltransfer.engine.job import DomainShift, HoldOut, Resume, TuningJob, TuningResult
from skltransfer.engine.networks.readout import Readout, VectorReadout
from skltransfer.engine.networks.spec import NetworkSpec
from skltransfer.engine.networks.state import NetworkState, with_current_names
from skltransfer.engine.networks.tuned import TunedNetwork, new_network
from skltransfer.engine.pretraining import Pretrained, PretrainingTask, adapt_norms, adapt_to_texts
from skltransfer.engine.storing.backend import Backend
from skltransfer.engine.storing.key import Address
from skltransfer.engine.storing.memory import ActivationStore, folder_store, shared_store, store_over
from skltransfer.engine.tasks.boxes import NEW_HEADS, DetectionTask
from skltransfer.engine.tasks.classification import ClassificationTask
from skltransfer.engine.tasks.ctc import NEW_HEAD, CtcTask
from skltransfer.engine.tasks.generation import GenerationTask
from skltransfer.engine.tasks.language_modeling import LanguageModelingTask, continuations
from skltransfer.engine.tasks.masks import SegmentationTask, as_map, map_shape
from skltransfer.engine.tasks.multi_task import MultiTask
from skltransfer.engine.tasks.multilabel import MultilabelTask
from skltransfer.engine.tasks.ordinal import OrdinalTask
from skltransfer.engine.tasks.probe import Probe
from skltransfer.engine.tasks.prototypes import Described, MultilabelPrototypeTask, PrototypeTask
from skltransfer.engine.tasks.regression import RegressionTask
from skltransfer.engine.tasks.spans import NEW_SPAN_HEADS, SpanTask
from skltransfer.engine.tasks.tagging import TaggingTask
from skltransfer.engine.tasks.targets import ArrayTargets, RecordTargets, Targets
from skltransfer.engine.tasks.task import OWN_HEAD, VECTOR_HEADS, Start, Task, VectorTask, solved_probe
from skltransfer.engine.training.loop import TrainingPlan, joined_history, train
from skltransfer.engine.training.observer import EpochObserver
from skltransfer.engine.training.training_set import TrainingSet, canonical, split
from skltransfer.engine.tuning import answers_of, geometries_of, run_tuned, tune

__path__.append(str(pathlib.Path(__file__).parent.with_name("_moved") / "engine"))  # until version 0.2

KINDS = (
    ClassificationTask,
    CtcTask,
    DetectionTask,
    GenerationTask,
    LanguageModelingTask,
    MultilabelPrototypeTask,
    MultilabelTask,
    MultiTask,
    OrdinalTask,
    PrototypeTask,
    RegressionTask,
    SegmentationTask,
    SpanTask,
    TaggingTask,
)
TASKS = {kind.__name__: kind for kind in KINDS}
TASKS |= {f"{name.removesuffix('Task')}Head": kind for name, kind in TASKS.items()}  # in files from before 0.1
TASKS["MultiTaskHead"] = MultiTask
