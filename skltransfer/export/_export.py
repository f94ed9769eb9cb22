"""A fitted estimator as an ONNX file that needs neither torch nor this package: backbone, head, and how to feed them.

Promises that the file says what the estimator says, checked before it appears, or that no file appears. Must not know
how a graph is written, nor what serves it.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

import skltransfer.export._onnx as _onnx
from skltransfer._estimators.fine_tuner import FineTuner
from skltransfer._estimators.vector_fine_tuner import VectorFineTuner
from skltransfer._system.validation import checks_arguments
from skltransfer._system.version import __version__
from skltransfer.backbones import Backbone, reload_backbone, seeded
from skltransfer.exceptions import UnsupportedBackboneError
from skltransfer.export._client_inputs import CLIENT_INPUTS, ClientInput, PairInput
from skltransfer.export._whole_network import (
    WholeNetwork,
    frozen_reference,
    frozen_whole,
    tuned_reference,
    tuned_whole,
)
from skltransfer.feature_extraction import PretrainedFeatureExtractor
from skltransfer.inputs import COLUMNS, PAIRS, PairSamples

FORMAT, MOST_BYTES = 1, 2_000_000_000  # a file of ONNX ends at 2 GiB
TOLERANCE, WORTHLESS = 1e-4, 1.0  # a probability that is off by 1 is another's


@checks_arguments({"estimator": [BaseEstimator], "path": [str, os.PathLike], "quantize": [StrOptions({"int8"}), None]})
def export_onnx(
    estimator: VectorFineTuner | PretrainedFeatureExtractor,
    path: str | os.PathLike,
    X: Any = None,
    *,
    quantize: str | None = None,
) -> dict[str, Any]:
    """Export a fitted estimator to one ONNX file, from prepared samples to predictions or embeddings.

    Use it to serve a model without torch and without this package. The file holds the backbone and the head in float32,
    whichever data type the estimator used. Before it is written, the model is run in onnxruntime and compared with the
    estimator; if they differ, no file is written. Requires the extra ``export``.

    Parameters
    ----------
    estimator : fine-tuning estimator or PretrainedFeatureExtractor
        Estimator to export: a fitted :class:`FineTunedClassifier`, :class:`FineTunedRegressor`,
        :class:`FewShotClassifier`, :class:`MultiTaskFineTuner` or :class:`DomainAdaptedClassifier`, or a
        :class:`PretrainedFeatureExtractor`, which need not be fitted.
    path : path-like
        File to write, which must end in ``.onnx``. The tokenizer of texts, or the feature extractor of audio, is saved
        next to it in a folder of the same name without the suffix.
    X : sequence of samples, or array-like of shape (n_samples, n_features), default=None
        Samples like those that will be predicted, without labels. The exported model is also compared with the
        estimator on them. With ``quantize`` and images, they calibrate the quantization as well (a hundred are enough),
        which makes the model faster and each result independent of the other rows of its batch.
    quantize : {"int8"} or None, default=None
        ``"int8"`` stores weights as 8-bit integers, which reduces the file to about a quarter of its size and changes
        results slightly. None keeps float32.

    Returns
    -------
    dict of str to object
        Description of the model, which is also stored as JSON in the file's metadata under the key ``"skltransfer"``:
        how to prepare a sample (``"preprocessing"``), the outputs and their classes (``"outputs"``), and the largest
        difference from the float32 estimator that was observed (``"largest_difference"``). Differences are those of
        probabilities, of numbers in standard deviations of the training target, or of features relative to the largest
        one.

    Raises
    ------
    MissingDependencyError
        If onnx, onnxruntime or onnxscript is not installed.
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator is of another type, such as a Pipeline or a search.
    ValueError
        If ``path`` does not end in ``.onnx``, or ``quantize`` is not one of the choices.
    FileNotFoundError
        If the folder of ``path`` does not exist.
    UnsupportedBackboneError
        If the network cannot be exported, is too large for one file, or differs from the estimator by more than 1e-4
        (by more than 1 if quantized).
    BadSampleError
        If a sample of X cannot be read; the message names its row.

    See Also
    --------
    load : Load an estimator that its ``save`` method wrote, to continue in Python.

    Examples
    --------
    >>> import os, tempfile
    >>> import onnxruntime
    >>> from skltransfer import FineTunedRegressor, export_onnx
    >>> X = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    >>> model = FineTunedRegressor("toy:rows", freeze_depth=1.0, dtype="float32").fit(X, [1, 2, 3])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.onnx")
    ...     description = export_onnx(model, path)
    ...     session = onnxruntime.InferenceSession(path)
    >>> description["preprocessing"]["input"], list(description["outputs"])
    ('rows', ['prediction'])
    >>> (prediction,) = session.run(["prediction"], {"rows": np.array(X, dtype=np.float32)})
    >>> bool(abs(prediction - model.predict(X)).max() < 1e-4)
    True
    """
    _onnx.require()
    path, source = _checked_path(path), _source_of(estimator)
    given = [] if X is None else source.read(estimator, X)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        draft, files = Path(folder, path.name), Path(folder, path.stem)
        difference = _written(source, draft, given, quantize)
        has_files = source.client_input.save_files(files)
        description = {
            "format": FORMAT,
            "skltransfer": __version__,
            "estimator": type(estimator).__name__,
            "backbone": _name_of(source.backbone),
            "fitted_dtype": getattr(estimator, "dtype_", None),
            "quantize": quantize,
            "preprocessing": source.client_input.recipe() | {"files": path.stem if has_files else None},
            "outputs": source.outputs,
            "largest_difference": difference,
        }
        _onnx.describe(draft, description)
        _put(files, path.with_suffix(""))
        os.replace(draft, path)
    return description


def _checked_path(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path must end in '.onnx', got {str(path)!r}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {path.name!r} into. Make it first.")
    return path


@dataclass(frozen=True)
class _Source:
    """The parts of an export.

    Attributes
    ----------
    backbone : Backbone
        The backbone.
    client_input : ClientInput
        Arrays that a client passes.
    network : WholeNetwork
        Network that is exported.
    reference : callable
        Function from inputs of the first stage to outputs of the estimator in float32, by name.
    outputs : dict of str to dict
        Description of each output for clients.
    """

    backbone: Backbone
    client_input: ClientInput
    network: WholeNetwork
    reference: Callable[[torch.Tensor], dict[str, np.ndarray]]
    outputs: dict[str, dict[str, Any]]

    def read(self, estimator: Any, X: Any) -> list[tuple[torch.Tensor, ...]]:
        """The arrays of each sample."""
        samples = estimator._samples(X, self.backbone, reset=False)
        if isinstance(samples, PairSamples) != isinstance(self.client_input, PairInput):
            raise ValueError("X holds pairs of texts, which the extractor was not fitted on. Fit it on pairs first.")
        return [self.client_input.one(samples.read(row)) for row in range(len(samples))]

    def feeds(self, arrays: Sequence[tuple[torch.Tensor, ...]]) -> list[dict[str, np.ndarray]]:
        """The same, named, as onnxruntime takes them."""
        return [dict(zip(self.client_input.axes, map(torch.Tensor.numpy, each), strict=True)) for each in arrays]

    def difference(self, path: Path, arrays: Sequence[tuple[torch.Tensor, ...]]) -> float:
        """The largest from the estimator that a file shows; NaN if one of them says so."""
        found = _onnx.run(path, self.feeds(arrays))
        pairs = zip(found, (self.reference(self.client_input.batch(*each)) for each in arrays), strict=True)
        return float(np.max([self._difference(*pair) for pair in pairs]))

    def _difference(self, got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
        units = {name: self.outputs[name].get("scale", 1.0) for name in expected}
        if "features" in expected:
            units["features"] = np.abs(expected["features"]).max() + 1e-12
        return float(np.max([(np.abs(got[name] - expected[name]) / units[name]).max() for name in expected]))


def _source_of(estimator: Any) -> _Source:
    if isinstance(estimator, PretrainedFeatureExtractor):
        return _source_of_extractor(estimator)
    if isinstance(estimator, FineTuner) and not isinstance(estimator, VectorFineTuner):
        raise TypeError(
            f"export_onnx writes estimators whose answer is read off one vector per sample; got a "
            f"{type(estimator).__name__}. Keep it with save, and serve it with Python."
        )
    if not isinstance(estimator, VectorFineTuner):
        raise TypeError(
            "export_onnx takes a fine-tuning estimator or a PretrainedFeatureExtractor; got a "
            f"{type(estimator).__name__}. Of a search, pass best_estimator_. Of a Pipeline, pass the extractor, and "
            "give what follows to skl2onnx; or fit FineTunedClassifier(freeze_depth=1.0), which is an extractor and a "
            "linear model in one."
        )
    check_is_fitted(estimator)
    if estimator._network_.spec.n_numbers:
        raise UnsupportedBackboneError(
            f"sample_column={estimator.sample_column!r} cannot be exported: a client would have to pass numbers beside "
            "each sample. Fit without them, or save the estimator and load it in Python."
        )
    backbone, network, task = reload_backbone(*estimator._origin_), estimator._network_, estimator._task_
    client_input = _client_input_of(estimator, backbone)
    return _Source(
        backbone,
        client_input,
        tuned_whole(network, backbone, task, client_input),
        lambda batch: tuned_reference(network, backbone, task, batch),
        task.described(list(getattr(estimator, "tasks_", ()))),
    )


def _source_of_extractor(extractor: PretrainedFeatureExtractor) -> _Source:
    extractor._validate_params()
    backbone = extractor._loaded_backbone()
    place = (backbone, extractor._boundaries(backbone), extractor._resolved_pooling(backbone))
    client_input = _client_input_of(extractor, backbone)
    return _Source(
        backbone,
        client_input,
        frozen_whole(*place, client_input),
        lambda batch: frozen_reference(*place, batch),
        {"features": {"layer": extractor.layer}},
    )


def _client_input_of(estimator: Any, backbone: Backbone) -> ClientInput:
    if backbone.is_windowed:
        raise UnsupportedBackboneError(
            "long_samples='windows' cannot be exported: a file of ONNX reads one input at a time. Fit with "
            "long_samples='truncate', and average what the file says of windows that the client cuts."
        )
    width, kind = getattr(estimator, "n_features_in_", None), getattr(estimator, "input_kind_", None)
    if kind == COLUMNS:
        raise UnsupportedBackboneError(
            f"The extractor was fitted on {width} columns of samples; a file of ONNX reads one. Fit and export an "
            "extractor for one column, and use it for each."
        )
    if backbone.modality == "image" and estimator.image_shape is None and width not in (None, 1):
        raise ValueError(
            f"The estimator was fitted on rows of {width} numbers, drawn as narrow images; the file would take images. "
            "Fit on images, or set image_shape."
        )
    n_bytes = 4 * sum(value.numel() for value in backbone.library_state().values())
    if n_bytes > MOST_BYTES:
        raise UnsupportedBackboneError(
            f"{backbone.name!r} has {n_bytes / 1e9:.1f} GB of weights; one file of ONNX holds 2. Choose a smaller one."
        )
    return PairInput(backbone) if kind == PAIRS else CLIENT_INPUTS[backbone.modality](backbone, width)


def _name_of(backbone: Backbone) -> str:
    """Without folders of this machine."""
    source, _, place = backbone.name.partition(":")
    folder = place if Path(place).is_dir() else place.rpartition(":")[0]  # the name of a tower may follow
    return f"{source}:{Path(place).name}" if folder and Path(folder).is_dir() else backbone.name


def _written(source: _Source, draft: Path, given: list[tuple[torch.Tensor, ...]], quantize: str | None) -> float:
    """Write the draft; the largest difference from the estimator.

    Raises
    ------
    UnsupportedBackboneError
        If there is no such graph, or it says something else.
    """
    with seeded(0):
        known = [source.client_input.example(n, longer=longer) for n, longer in ((2, True), (1, False), (3, True))]
    try:
        _onnx.write(source.network, source.client_input.axes, known[0], draft)
        difference = _checked(source, draft, known + given, TOLERANCE)
    except (OSError, MemoryError, UnsupportedBackboneError):
        raise
    except Exception as error:  # of many kinds, from several libraries
        raise UnsupportedBackboneError(
            f"{source.backbone.name!r} cannot be written as ONNX: {_first_words(error)}. Choose another backbone, or, "
            "of an extractor of a transformer, layer='penultimate'."
        ) from error
    if quantize is None:
        return difference
    whole = draft.replace(draft.with_name("float32.onnx"))
    _onnx.quantise(whole, draft, source.feeds(given))
    return _checked(source, draft, given or known, WORTHLESS)


def _checked(source: _Source, draft: Path, arrays: list[tuple[torch.Tensor, ...]], limit: float) -> float:
    difference = source.difference(draft, arrays)
    if not difference <= limit:
        raise UnsupportedBackboneError(
            f"The ONNX file of {source.backbone.name!r} differs from the estimator by {difference:.1e}, more than "
            f"{limit:.0e}; it was not written. Choose another backbone, or, for quantize='int8', None."
        )
    return difference


def _first_words(error: BaseException) -> str:
    """The complaint about what was wrong in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _put(files: Path, folder: Path) -> None:
    """Move files to where they belong, each in one step."""
    if files.exists():
        folder.mkdir(exist_ok=True)
        for file in files.iterdir():
            os.replace(file, folder / file.name)
