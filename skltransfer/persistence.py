"""Reading back what an estimator's ``save`` wrote: JSON and safetensors, no code."""

import os

from skltransfer._estimators import serialization
from skltransfer._estimators.fine_tuner import FineTuner
from skltransfer.backbones import Backbone, load_backbone
from skltransfer.detection import FineTunedDetector
from skltransfer.domain_adaptation import DomainAdaptedClassifier
from skltransfer.exceptions import SkltransferError, WeightsError
from skltransfer.few_shot import FewShotClassifier
from skltransfer.fine_tuning import FineTunedClassifier, FineTunedRegressor
from skltransfer.multi_task import MultiTaskFineTuner
from skltransfer.pretraining import AdaptedBackbone
from skltransfer.question_answering import FineTunedQuestionAnswerer
from skltransfer.segmentation import FineTunedSegmenter
from skltransfer.tagging import FineTunedTagger
from skltransfer.text_generation import FineTunedLanguageModel, FineTunedTextToText
from skltransfer.transcription import FineTunedTranscriber

KINDS = (
    AdaptedBackbone,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedDetector,
    FineTunedLanguageModel,
    FineTunedQuestionAnswerer,
    FineTunedRegressor,
    FineTunedSegmenter,
    FineTunedTagger,
    FineTunedTextToText,
    FineTunedTranscriber,
    MultiTaskFineTuner,
)
ESTIMATORS = {kind.__name__: kind for kind in KINDS}


def load(path: str | os.PathLike, *, backbone: str | Backbone | None = None) -> FineTuner | AdaptedBackbone:
    """Load an estimator that its ``save`` method wrote.

    The file contains data only, and in contrast to a pickle, loading it runs no code.

    Parameters
    ----------
    path : path-like
        File that ``save`` wrote.
    backbone : str or Backbone, default=None
        Backbone to use, if its name or folder has changed since the estimator was saved; its weights must be the same.
        None loads the backbone of the fit, or the weights in the file if it was saved with ``include_backbone=True``.

    Returns
    -------
    estimator : object
        Fitted estimator of the saved class, such as :class:`FineTunedClassifier` or :class:`AdaptedBackbone`, with the
        same predictions as the saved one.

    Raises
    ------
    WeightsError
        If the file does not exist, is damaged or was not written by ``save``, or if the backbone is not the one of the
        fit.
    BackboneNotFoundError, UnsupportedBackboneError, MissingDependencyError
        If the backbone cannot be loaded; see :func:`load_backbone`.

    See Also
    --------
    export_onnx : Export an estimator to serve it without Python.

    Examples
    --------
    >>> import os, tempfile
    >>> from skltransfer import FineTunedRegressor, load
    >>> model = FineTunedRegressor("toy:rows", random_state=0).fit([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [1, 2, 3])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(os.path.join(folder, "model.skl"))
    ...     copy = load(os.path.join(folder, "model.skl"))
    >>> bool((copy.predict([[0.5, 0.5]]) == model.predict([[0.5, 0.5]])).all())
    True
    """
    header, arrays = serialization.read(path)
    if str(header.get("class")) not in ESTIMATORS:
        raise WeightsError(f"{os.fspath(path)!r} holds a {header.get('class')!r}; expected one of {list(ESTIMATORS)}.")
    where = load_backbone(backbone) if isinstance(backbone, str) else backbone
    try:
        return ESTIMATORS[header["class"]]._restored(header, arrays, path, where)
    except SkltransferError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{os.fspath(path)!r} was written by skltransfer {header.get('version')!r} and cannot be read by this "
            f"version, or is damaged ({type(error).__name__}: {error}). Save the estimator again."
        ) from error
