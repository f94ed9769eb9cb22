"""What the scikit-learn shells share: from parameters and X to a backbone, samples and frozen stages.

Promises scikit-learn's own words for bad tables, and the row in every complaint about a sample. Must not know
library names, file formats or training.
"""

import copy
import numbers
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import (
    _check_feature_names,
    _check_feature_names_in,
    _check_n_features,
    check_is_fitted,
    validate_data,
)

from skltransfer.backbones import Backbone, load_backbone, refuse_unless_it_reads_pairs
from skltransfer.engine import (
    DTYPE_NAMES,
    INT8,
    RUNTIMES,
    ActivationStore,
    BadSamplePolicy,
    FrozenStages,
    folder_store,
    recall,
    resolve_device,
    resolve_dtype,
    resolve_runtime,
    shared_store,
)
from skltransfer.exceptions import BadSampleError
from skltransfer.inputs import (
    COLUMNS,
    NOUNS,
    PAIR,
    PAIRS,
    SAMPLES,
    TABLE,
    JoinedSamples,
    PairSamples,
    QuestionSamples,
    Samples,
    contained,
    samples_from_collection,
    samples_from_pairs,
    samples_from_table,
)

MOST_KNOWN = 100_000
READING = ("input_size", "long_samples", "max_length", "resize")  # options of a backbone that are parameters, too


class BackboneEstimator:
    """Parent of estimators that read X with a backbone: from parameters and X to samples and frozen stages."""

    _kind_of_samples: str | None = None  # where it is not what the backbone reads

    @property
    def _reads_columns(self) -> str:
        """How several columns are read; two of texts are pairs."""
        return PAIR

    def _loaded_backbone(self) -> Backbone:
        """The estimator's backbone, loaded once per process."""
        options = self._reading_options()
        if not isinstance(self.backbone, Backbone):
            return load_backbone(self.backbone, weights=self.weights, **options)
        backbone = self.backbone
        if not options:
            return backbone
        return load_backbone(backbone.name, weights=backbone.weights, **backbone.options | options)

    def _reading_options(self) -> dict[str, Any]:
        """Options of the backbone that parameters of the estimator set, as far as it has them."""
        asked = {name: getattr(self, name, None) for name in READING}
        numbers_or_words = {k: int(v) if isinstance(v, numbers.Integral) else v for k, v in asked.items()}
        return {name: value for name, value in numbers_or_words.items() if value is not None}

    def _samples(self, X: Any, backbone: Backbone, *, reset: bool) -> Samples:
        """X as samples: a table in scikit-learn's sense, or a collection of what the backbone reads.

        Parameters
        ----------
        reset : bool
            If True, store the number and names of features; if False, compare them with those seen in ``fit``.
        """
        expected = None if reset else getattr(self, "input_kind_", None)
        reading = backbone.reading
        kind = self._kind_of_samples or backbone.modality
        how = {name: reading[name] for name in ("channels", "bands") if name in reading}
        container = contained(X, kind, **how, expected=expected, columns=self._reads_columns)
        if expected is not None:
            _refuse_other_kind(self, container.kind, X, backbone)
        estimator = self
        if not reset and not hasattr(self, "n_features_in_"):  # stateless, or fitted on what has no columns
            estimator, reset = copy.copy(self), True
        if reset:
            estimator.input_kind_ = container.kind
        if container.kind == TABLE:
            is_flat = self._image_shape is not None and backbone.modality == "image"
            X = _checked_table(estimator, container.items, reset=reset, dtype="numeric" if is_flat else np.float32)
            return samples_from_table(X, backbone.modality, image_shape=self._image_shape, **reading)
        if hasattr(X, "columns") or (container.kind in (PAIRS, COLUMNS) and getattr(X, "ndim", 1) == 2):
            _check_feature_names(estimator, X, reset=reset)
            _check_n_features(estimator, X, reset=reset)
        elif reset:
            for stale in ("n_features_in_", "feature_names_in_"):
                vars(estimator).pop(stale, None)
        if container.kind == PAIRS:
            refuse_unless_it_reads_pairs(backbone.preprocessing, backbone.name)
            return self._read_pairs(container.items, backbone)
        if container.kind == COLUMNS:
            parts = [self._read(items, backbone) for items in container.items]
            names = map(repr, X.columns) if hasattr(X, "columns") else (f":, {i}" for i in range(len(parts)))
            return JoinedSamples(parts, [f"X[{name}]" for name in names])
        return self._read(container.items, backbone)

    @property
    def _image_shape(self) -> tuple[int, ...] | None:
        return getattr(self, "image_shape", None)

    def _read(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        """The elements of X as samples."""
        rate = {"sampling_rate": self.sampling_rate} if backbone.modality == "audio" else {}
        return samples_from_collection(items, backbone.modality, **backbone.reading, **rate)

    def _read_pairs(self, items: Sequence[Any], backbone: Backbone) -> Samples:
        """Pairs of texts as samples."""
        return samples_from_pairs(items, backbone.preprocessing)

    def _frozen_stages(self, backbone: Backbone, *, fits: bool = False) -> FrozenStages:
        """The backbone's frozen stages, with the estimator's device and cache, and the runtime of an earlier fit.

        Where it ``fits``, the dtype is chosen, and the cache keeps what stages gave on the way, for other freeze depths
        to begin from.
        """
        device, store = resolve_device(self.device), _store(self.cache)
        was_fitted = hasattr(self, "dtype_")  # a fit that starts anew has no attributes yet
        name = self.dtype_ if was_fitted and not fits else self.dtype
        dtype = resolve_dtype(name, backbone, device, store)
        goes_on = was_fitted and not (fits and name == INT8)  # a fit in 8 bits chooses anew
        runtime = getattr(self, "runtime_", "eager") if goes_on else self.runtime
        return FrozenStages(
            backbone,
            dtype=dtype,
            runtime=resolve_runtime(runtime, backbone, dtype, device, quantized=name == INT8, was_fitted=goes_on),
            device=device,
            store=store,
            verbose=int(self.verbose),
            fits=fits,
        )

    def _resolved_pooling(self, backbone: Backbone) -> str:
        """``"auto"`` is the backbone's own way to pool."""
        return backbone.pooling if self.pooling == "auto" else self.pooling

    def _resolved_window_pooling(self, backbone: Backbone) -> str:
        """``"mean"`` where each sample is one input, so that the parameter is without effect."""
        return self.window_pooling if backbone.is_windowed else "mean"

    def _bad_sample_policy(self) -> BadSamplePolicy:
        """How rows that cannot be read are treated; an estimator without ``missing`` treats missing ones alike."""
        return BadSamplePolicy(getattr(self, "missing", self.on_bad_sample), self.on_bad_sample)

    def _checkpoint_folder(self) -> Path | None:
        """Where training leaves its state, if anywhere.

        Raises
        ------
        ValueError
            If another fit would draw other random numbers.
        """
        if self.checkpoint is None:
            return None
        if not isinstance(self.random_state, numbers.Integral):
            raise ValueError(
                f"checkpoint={self.checkpoint!r} needs random_state to be an int, so that a fit that goes on is "
                f"the one that was interrupted; got random_state={self.random_state!r}."
            )
        return Path(self.checkpoint).expanduser().absolute()

    def _unfitted_copy(self) -> Any:
        """A shallow copy that learns in the estimator's place, without what an earlier fit left."""
        draft, parameters = copy.copy(self), self.get_params(deep=False)
        draft.__dict__ = {k: v for k, v in vars(self).items() if k in parameters or not k.endswith("_")}
        return draft

    def _refuse_unknown_choices(self) -> None:
        """Raise if a file names a dtype or a runtime that no fit chooses."""
        for name, choices in (("dtype_", DTYPE_NAMES), ("runtime_", RUNTIMES)):
            if hasattr(self, name) and getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}")

    def _last_features(self, samples: Samples, backbone: Backbone) -> np.ndarray:
        """Pooled features of the last stage, float32, (n, d)."""
        stages = self._frozen_stages(backbone)
        windows = getattr(self, "window_pooling", "mean")  # of estimators that have windows
        address = stages.address(backbone.n_stages, self._resolved_pooling(backbone), windows)
        return recall(stages, samples, [address], self._bad_sample_policy()).tensors[0].float().numpy()


class NamesFeatures:
    """Parent of the estimators that embed samples: names of the features."""

    _n_features_out: int

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Get the names of the output features of ``transform``.

        A name consists of a prefix and a zero-padded number. The prefix is the name of X's column if X has a single
        one, else the lowercased name of the class.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of X. They have no effect on the result, but must match the names seen in ``fit``.

        Returns
        -------
        ndarray of str objects, shape (n_features_out,)
            Names of the output features.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``input_features`` do not match the names seen in ``fit``.
        """
        check_is_fitted(self)
        if hasattr(self, "n_features_in_"):
            _check_feature_names_in(self, input_features, generate_names=False)
        columns = getattr(self, "feature_names_in_", ())
        if getattr(self, "input_kind_", None) == COLUMNS:
            n = self.n_features_in_
            columns = columns if len(columns) else [f"x{i}" for i in range(n)]
            return np.concatenate([numbered(f"{column}_", self._n_features_out // n) for column in columns])
        prefix = f"{columns[0]}_" if len(columns) == 1 else type(self).__name__.lower()
        return numbered(prefix, self._n_features_out)


def _store(cache: Any) -> ActivationStore | None:
    if cache is None or isinstance(cache, ActivationStore):
        return cache
    return shared_store() if cache == "memory" else folder_store(os.fspath(cache))


def _refuse_other_kind(estimator: Any, kind: str, X: Any, backbone: Backbone) -> None:
    """Raise where ``fit`` saw a table and X is a collection of samples, or the other way round."""
    noun = NOUNS[backbone.modality]
    seen, names = estimator.input_kind_, {PAIRS: "pairs of texts", COLUMNS: f"several columns of {noun}"}
    if seen != kind and {seen, kind} & names.keys():
        was, now = (names.get(one, "a table" if one == TABLE else f"single {noun}") for one in (seen, kind))
        raise ValueError(f"fit saw {was}, but X holds {now}. Pass X in the form that fit saw, or fit again.")
    if estimator._image_shape is not None:
        return
    if (seen, kind) == (SAMPLES, TABLE):
        shape = getattr(X, "shape", None) or np.shape(X)
        raise ValueError(
            f"fit saw a collection of {noun}, but X is a table of numbers of shape {tuple(shape)}. Pass one image in a "
            "list: [image]; for images that were flattened, set image_shape=(height, width, channels)."
        )
    if (seen, kind) == (TABLE, SAMPLES):
        raise ValueError(
            f"fit saw a table of {estimator.n_features_in_} columns, but X is a collection of {noun}. Pass rows of as "
            f"many numbers, or fit on {noun}."
        )


def _checked_table(estimator: Any, X: Any, *, reset: bool, dtype: Any) -> np.ndarray:
    """scikit-learn's check of a table, whose complaint about NaN gains the rows."""
    try:
        return validate_data(estimator, X, dtype=dtype, order="C", reset=reset)
    except ValueError as error:
        if "contains NaN" in str(error) or "contains infinity" in str(error):
            values = check_array(X, dtype=np.float32, ensure_all_finite=False)
            rows = np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist()
            more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
            error.add_note(f"They are in rows {rows[:10]}{more} of X: drop or fill them.")
        raise


_cut: dict[tuple[str, bytes], bool] = {}  # (backbone, text), since counting reads every long text


def n_truncated(samples: Samples, backbone: Backbone, *, tell: bool = True) -> int:
    """Count texts or audio clips that are longer than the backbone reads, and warn if ``tell`` is True."""
    if isinstance(samples, JoinedSamples):
        return sum(n_truncated(part, backbone, tell=tell) for part in samples.parts)
    if backbone.modality not in ("audio", "text") or backbone.is_windowed:
        return 0
    cut = [position for position in range(len(samples)) if _is_cut(samples, position, backbone)]
    if cut and tell:
        first = ", ".join(f"{samples.remarks.name}[{samples.rows[position]}]" for position in cut[:3])
        longer = samples.words_if_cut or _longer(samples, backbone)
        warnings.warn(f"{len(cut)} of {len(samples)} {longer} (first: {first})", stacklevel=3)
    return len(cut)


def _longer(samples: Samples, backbone: Backbone) -> str:
    reader = backbone.preprocessing
    if isinstance(samples, QuestionSamples):
        return (
            f"pairs of a question and a context are longer than max_length={reader.max_length} tokens; part of the "
            "longer text was not read. Raise max_length where the network allows, or split contexts into paragraphs."
        )
    if isinstance(samples, PairSamples):
        return (
            f"pairs of texts are longer than max_length={reader.max_length} tokens; part of the longer text was not "
            "read. Set long_samples='windows' to read all of the second texts, or raise max_length where the network "
            "allows."
        )
    if backbone.modality == "text":
        part = {"start": "what comes after", "end": "their beginning", "both ends": "their middle"}[reader.keeps]
        return (
            f"texts are longer than max_length={reader.max_length} tokens; {part} was not read. Set "
            "long_samples='windows' to read all of them, or raise max_length where the network allows."
        )
    part = {"start": "the rest", "end": "their beginning", "both ends": "their middle"}[reader.keeps]
    return (
        f"audio clips are longer than the {reader.longest / reader.rate:g} s that {backbone.name!r} reads; {part} "
        "was ignored. Set long_samples='windows' to read all of them."
    )


def _is_cut(samples: Samples, position: int, backbone: Backbone) -> bool:
    if backbone.modality == "audio" and backbone.is_ragged:
        return False
    try:
        if backbone.modality == "audio":
            return backbone.preprocessing.cuts(samples.length(position))
        digest, text = samples.identify(position)
    except BadSampleError:
        return False
    key = (backbone.fingerprint, digest)
    known = _cut.get(key)
    if known is None:
        known = backbone.preprocessing.cuts(text)
        if len(_cut) >= MOST_KNOWN:
            _cut.clear()
        _cut[key] = known
    return known


def numbered(prefix: str, n: int) -> np.ndarray:
    """``prefix000``, ``prefix001`` …: as many digits as the last one needs, so that names sort like numbers."""
    digits = len(str(n - 1))
    return np.array([f"{prefix}{i:0{digits}d}" for i in range(n)], dtype=object)
