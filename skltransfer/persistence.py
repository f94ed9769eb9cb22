"""Reading back what an estimator's ``save`` wrote: JSON and safetensors, no code."""

import os

from skltransfer._estimators import serialization
from skltransfer._estimators.fine_tuner import FineTuner
from skltransfer.backbones import Backbone, load_backbone
from skltransfer.domain_adaptation import DomainAdaptedClassifier
from skltransfer.exceptions import SkltransferError, WeightsError
from skltransfer.few_shot import FewShotClassifier
from skltransfer.fine_tuning import FineTunedClassifier, FineTunedRegressor
from skltransfer.multi_task import MultiTaskFineTuner
from skltransfer.pretraining import AdaptedBackbone

KINDS = (
    AdaptedBackbone,
    DomainAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTaskFineTuner,
)
ESTIMATORS = {kind.__name__: kind for kind in KINDS}


def load(path: str | os.PathLike, *, backbone: str | Backbone | None = None) -> FineTuner | AdaptedBackbone:
    """Read an estimator that ``save`` wrote. No code is run that the file contains: there is none.

    Parameters
    ----------
    path : path-like
        The file.
    backbone : str or Backbone, default=None
        Where the backbone is now, if its name or folder has changed since; its weights must be the same. By default it
        is loaded as it was when the estimator was fitted, or from the file where ``include_backbone`` put it there.

    Returns
    -------
    AdaptedBackbone, DomainAdaptedClassifier, FewShotClassifier, FineTunedClassifier, FineTunedRegressor or
    MultiTaskFineTuner
        Fitted; its predictions are those of the one that was saved.

    Raises
    ------
    WeightsError
        If the file is no such file or is damaged, or the backbone is not the one that the estimator was fitted with.

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
