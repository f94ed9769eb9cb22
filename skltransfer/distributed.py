"""Features of more samples than one process takes, on engines that others made: Dask, Ray Data, Spark.

Promises that a partition's features are written whole or not at all, that a run which was killed goes on where it was,
and that a worker holds its partitions and one backbone. Must not know where work is run, nor how networks are.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import joblib
import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods

from skltransfer._estimators.base import numbered
from skltransfer._system.files import DRAFT, remove, replacing
from skltransfer._system.validation import checks_arguments
from skltransfer.exceptions import MissingDependencyError
from skltransfer.feature_extraction import PretrainedFeatureExtractor

FORMAT, MANIFEST, LOCK = 1, "_skltransfer.json", "_lock"  # readers of Parquet pass over names with an underscore
MADE_FROM = b"skltransfer made from"
SAMPLE = "sample"


class BatchExtractor:
    """Turn batches of a table into batches with features, for Ray Data's ``map_batches`` and Spark's ``mapInPandas``.

    It travels as a name; each process that calls it loads the backbone once, and keeps no batch.

    Parameters
    ----------
    extractor : PretrainedFeatureExtractor
        Fitted or not. Its ``cache`` may be a folder that all workers see: then a run that was killed, and is started
        again, reads what is there instead of running the network. ``"memory"`` is taken for None, since a sample comes
        once. Where processors differ, ``dtype="auto"`` may too: name one.
    column : str
        The one that holds the samples.
    keep : list of str, default=None
        Columns to pass on beside the features; None passes on all but ``column``.
    output : str, default="features"
        The column of features, one vector per row.

    References
    ----------
    P. Moritz et al. (2018), "Ray: a distributed framework for emerging AI applications", OSDI.

    Examples
    --------
    >>> import numpy as np
    >>> from skltransfer import BatchExtractor, PretrainedFeatureExtractor
    >>> photos = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    >>> extract = BatchExtractor(PretrainedFeatureExtractor("toy:images"), "photo")
    >>> batch = extract({"id": np.arange(3), "photo": photos})
    >>> {name: values.shape for name, values in batch.items()}
    {'id': (3,), 'features': (3, 32)}
    """

    @checks_arguments(
        {
            "extractor": [PretrainedFeatureExtractor],
            "column": [str],
            "keep": [list, tuple, None],
            "output": [str],
        }
    )
    def __init__(
        self,
        extractor: PretrainedFeatureExtractor,
        column: str,
        *,
        keep: Sequence[str] | None = None,
        output: str = "features",
    ) -> None:
        self.extractor = clone(extractor)
        if isinstance(extractor.cache, str) and extractor.cache == "memory":
            self.extractor.set_params(cache=None)
        self.column, self.keep, self.output = column, None if keep is None else list(keep), output

    def __call__(self, batch: Any) -> Any:
        """The kept columns of a batch, and its features.

        Parameters
        ----------
        batch : dict of str to ndarray, or DataFrame
            n rows.

        Returns
        -------
        dict of str to ndarray, or DataFrame
            As the batch is: features are an array of float32 of shape (n, n_features), or a column of n vectors.

        Raises
        ------
        ValueError
            If a column is not there.
        BadSampleError
            With the row in this batch, if a sample cannot be read.
        """
        features, kept = self.features(batch), self.kept(batch)
        if isinstance(batch, Mapping):
            return {name: batch[name] for name in kept} | {self.output: features}
        return batch[kept].assign(**{self.output: list(features)})

    def features(self, batch: Any) -> np.ndarray:
        """The features of a batch, without its other columns.

        Parameters
        ----------
        batch : dict of str to ndarray, or DataFrame

        Returns
        -------
        ndarray of float32, shape (n, n_features)
        """
        _refuse_absent([self.column], batch)
        samples = list(batch[self.column])
        if not samples:
            return np.empty((0, self.extractor._n_features_out), dtype=np.float32)
        return np.asarray(self.extractor.transform(samples), dtype=np.float32)

    def kept(self, batch: Any) -> list[str]:
        """Names of the columns that are passed on.

        Parameters
        ----------
        batch : dict of str to ndarray, or DataFrame

        Returns
        -------
        list of str
        """
        if self.keep is None:
            return [name for name in batch if name != self.column]
        _refuse_absent(self.keep, batch)
        return self.keep


def _refuse_absent(names: Sequence[str], columns: Any) -> None:
    absent = [name for name in names if name not in columns]
    if absent:
        raise ValueError(f"There is no column {absent[0]!r}; there are {list(columns)}.")


@checks_arguments(
    {
        "extractor": [PretrainedFeatureExtractor],
        "collection": [HasMethods(["to_delayed", "map_partitions"])],
        "folder": [str, os.PathLike],
        "column": [str, None],
        "keep": [list, tuple, None],
    }
)
def extract_to_parquet(
    extractor: PretrainedFeatureExtractor,
    collection: Any,
    folder: str | os.PathLike,
    *,
    column: str | None = None,
    keep: Sequence[str] | None = None,
) -> list[Path]:
    """Write the features of a Dask collection to Parquet files, one per partition; go on where a run was killed.

    It runs where Dask runs: in the workers of the active client, or in threads of this process without one. Each worker
    loads the backbone once, and holds as many partitions as it has threads. A file is written whole or not at all.
    Called again with the same arguments, after a kill for instance, it reads the partitions that have their file, to
    see that they are those that it was made from, and computes the others. Needs the extra ``distributed``.

    Parameters
    ----------
    extractor : PretrainedFeatureExtractor
        Fitted or not. ``cache="memory"`` is taken for None, since a sample comes once. ``dtype="auto"`` is settled
        here, for all workers.
    collection : dask DataFrame, Series or Bag
        A collection of samples, or of rows (a Bag: of dicts) that hold them in ``column``. Partitions bound the memory
        that a worker needs.
    folder : path-like
        Made if it is not there; all workers see it under this name.
    column : str, default=None
        The one that holds the samples; None where the collection holds nothing else.
    keep : list of str, default=None
        Columns to write beside the features; None writes all but ``column``.

    Returns
    -------
    list of Path
        The files, in the order of the partitions. ``pandas.read_parquet(folder)`` reads them all; features are columns
        of float32, named after ``column``.

    Raises
    ------
    MissingDependencyError
        If dask, pandas or pyarrow is not installed.
    ValueError
        If a column is not there, or the folder holds features of other samples, of another backbone or layer, in other
        partitions.
    BlockingIOError
        If another process extracts into the folder.
    FileNotFoundError
        If workers write somewhere else.
    BadSampleError
        With the row and the partition, if a sample cannot be read. What was written stays.

    See Also
    --------
    BatchExtractor : The same for Ray Data and Spark.

    References
    ----------
    M. Rocklin (2015), "Dask: parallel computation with blocked algorithms and task scheduling", SciPy.

    Examples
    --------
    >>> import tempfile
    >>> import dask.bag, numpy as np, pandas as pd
    >>> from skltransfer import PretrainedFeatureExtractor, extract_to_parquet
    >>> photos = np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3), dtype=np.uint8)
    >>> rows = [{"id": i, "photo": photo} for i, photo in enumerate(photos)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bag = dask.bag.from_sequence(rows, npartitions=2)
    ...     files = extract_to_parquet(PretrainedFeatureExtractor("toy:images"), bag, folder, column="photo")
    ...     features = pd.read_parquet(folder)
    >>> [file.name for file in files]
    ['part-00000.parquet', 'part-00001.parquet']
    >>> features.shape, list(features.columns[:3])
    ((6, 33), ['id', 'photo_00', 'photo_01'])
    """
    compute, delayed = _dask()
    _refuse_other_columns(collection, column, keep)
    extract = BatchExtractor(_with_dtype_chosen(extractor), SAMPLE if column is None else column, keep=keep)
    partitions, folder = collection.to_delayed(), _made(folder)
    paths = [folder / f"part-{i:05d}.parquet" for i in range(len(partitions))]
    with _alone_in(folder):
        _begin_or_go_on(folder / MANIFEST, _description(extract, len(partitions)))
        write, extract = delayed(_write, pure=False), delayed(extract)
        compute(*(write(extract, partition, path) for partition, path in zip(partitions, paths, strict=True)))
        for draft in folder.glob(f"part-*{DRAFT}"):
            remove(draft)
    _refuse_unless_there(paths)
    return paths


def _dask() -> tuple[Any, Any]:
    try:
        import dask
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"extract_to_parquet needs dask, pandas and pyarrow ({error}): pip install 'skltransfer[distributed]'."
        ) from error
    return dask.compute, dask.delayed


def _refuse_other_columns(collection: Any, column: str | None, keep: Sequence[str] | None) -> None:
    if not hasattr(collection, "columns") or not hasattr(collection, "assign"):
        return  # a Series or a Bag, whose rows are seen when they come
    if column is None:
        raise ValueError(f"column must name the one that holds the samples; there are {list(collection.columns)}.")
    _refuse_absent([column, *(keep or ())], collection.columns)


def _with_dtype_chosen(extractor: PretrainedFeatureExtractor) -> PretrainedFeatureExtractor:
    """With the dtype that is ``"auto"`` here, so that it is the same in every worker."""
    extractor._validate_params()
    dtype = extractor._frozen_stages(extractor._loaded_backbone()).dtype
    return clone(extractor).set_params(dtype=str(dtype).removeprefix("torch."))


def _made(folder: str | os.PathLike) -> Path:
    if "://" in os.fspath(folder):
        raise ValueError(f"folder must be a path that all workers see, got {os.fspath(folder)!r}. Mount it first.")
    folder = Path(folder).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise BlockingIOError(
            f"Another process extracts into {str(folder)!r}. Wait for it, or choose another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _description(extract: BatchExtractor, n_partitions: int) -> dict[str, Any]:
    """All that decides what is in the files, beside the samples."""
    extractor = extract.extractor
    backbone = extractor._loaded_backbone()
    parameters = ("image_shape", "sampling_rate", "missing", "on_bad_sample", "dtype")
    description = {
        "format": FORMAT,
        "backbone": backbone.fingerprint,
        "layer": [backbone.stage_names[boundary - 1] for boundary in extractor._boundaries(backbone)],
        "pooling": extractor._resolved_pooling(backbone),
        "reading": {name: str(value) for name, value in backbone.reading.items()},
        **{name: getattr(extractor, name) for name in parameters},
        "column": extract.column,
        "keep": extract.keep,
        "n_partitions": n_partitions,
    }
    return json.loads(json.dumps(description))  # as it will be read


def _begin_or_go_on(manifest: Path, description: dict[str, Any]) -> None:
    if not manifest.exists():
        _refuse_unless_empty(manifest.parent)
        with replacing(manifest) as draft:
            draft.write_text(json.dumps(description, indent=1), encoding="utf-8")
        return
    begun = json.loads(manifest.read_text(encoding="utf-8"))
    names = sorted(name for name in begun.keys() | description.keys() if begun.get(name) != description.get(name))
    if names:
        before, now = (", ".join(f"{n}={text.get(n)!r}" for n in names) for text in (begun, description))
        raise ValueError(
            f"{str(manifest.parent)!r} was begun with {before}; this call has {now}. Call it as it was begun, or "
            "choose another folder."
        )


def _refuse_unless_empty(folder: Path) -> None:
    found = sorted(path.name for path in folder.glob("*.parquet"))
    if found:
        raise ValueError(f"{str(folder)!r} holds {found[0]!r} of someone else. Choose a folder without Parquet files.")


def _refuse_unless_there(paths: Sequence[Path]) -> None:
    absent = [str(path) for path in paths if not path.exists()]
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} of {len(paths)} files were written somewhere else, {absent[0]!r} for instance: the workers "
            "have a folder of this name of their own. Choose one that all of them see."
        )


def _write(extract: BatchExtractor, partition: Any, path: Path) -> None:
    """In a worker: the features of one partition, unless its file is there."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = _frame(extract, partition)
        kept = rows[extract.kept(rows)]
        made_from = joblib.hash([list(rows[extract.column]), kept.to_dict("list"), rows.index.tolist()])
        if _is_there(path, made_from):
            return
        features = extract.features(rows)
    except Exception as error:
        error.add_note(f"while reading the partition of {path.name}")
        raise
    names = numbered(f"{extract.column}_", features.shape[1])
    table = pa.Table.from_pandas(pd.concat([kept, pd.DataFrame(features, rows.index, names)], axis=1))
    table = table.replace_schema_metadata({**table.schema.metadata, MADE_FROM: made_from})
    with replacing(path) as draft:
        pq.write_table(table, draft, use_dictionary=extract.kept(rows))


def _frame(extract: BatchExtractor, partition: Any) -> Any:
    """The rows of a partition: of a frame, a Series, or a Bag of samples or of dicts."""
    import pandas as pd

    if hasattr(partition, "columns"):
        return partition
    if hasattr(partition, "to_frame"):
        return partition.to_frame(SAMPLE)
    rows = list(partition)
    if not rows:
        return pd.DataFrame(columns=[extract.column, *(extract.keep or ())])
    if isinstance(rows[0], Mapping):
        return pd.DataFrame(rows)
    return pd.DataFrame({SAMPLE: pd.Series(rows, dtype=object)})


def _is_there(path: Path, made_from: str) -> bool:
    """Whether a partition has its file; one that is damaged does not count.

    Raises
    ------
    ValueError
        If the file was made from other rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(path).metadata[MADE_FROM].decode()
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    if found != made_from:
        raise ValueError(
            f"{str(path)!r} was made from other rows than its partition has now. Pass the collection that it was begun "
            "with, or choose another folder."
        )
    return True
