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
    """Compute embeddings of batches of a table, in Ray Data's ``map_batches`` or Spark's ``mapInPandas``.

    Use it for data sets of images, texts or audio that are too large for one process; for Dask see
    :func:`extract_to_parquet`. The object pickles without weights: each process that calls it loads the backbone once.
    No batch is kept.

    Parameters
    ----------
    extractor : PretrainedFeatureExtractor
        Extractor that computes the embeddings, fitted or not. If its ``cache`` is a folder that all workers share, a
        run that was interrupted and is restarted reads the embeddings that are there instead of running the network.
        ``cache="memory"`` is replaced by None, since each sample occurs once. If the workers have different processors,
        set ``dtype`` rather than ``"auto"``, so that all compute in the same one.
    column : str
        Name of the column that holds the samples.
    keep : list of str, default=None
        Names of the columns to keep in addition to the embeddings. None keeps all columns except ``column``.
    output : str, default="features"
        Name of the column of embeddings, with one vector per row.

    See Also
    --------
    extract_to_parquet : Write embeddings of a Dask collection to Parquet files.

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
        """Compute the embeddings of a batch and return them with the kept columns.

        Parameters
        ----------
        batch : dict of str to ndarray, or DataFrame
            Rows of the table, with one entry or column per name.

        Returns
        -------
        dict of str to ndarray, or DataFrame
            Batch of the same type. Embeddings are a float32 array of shape (n_rows, n_features_out), or a column of
            vectors.

        Raises
        ------
        ValueError
            If a column does not exist.
        BadSampleError
            If a sample cannot be read; the message names its row in this batch.
        """
        features, kept = self.features(batch), self.kept(batch)
        if isinstance(batch, Mapping):
            return {name: batch[name] for name in kept} | {self.output: features}
        return batch[kept].assign(**{self.output: list(features)})

    def features(self, batch: Any) -> np.ndarray:
        """Compute the embeddings of a batch, without its other columns.

        Parameters
        ----------
        batch : dict of str to ndarray, or DataFrame
            Rows of the table, with one entry or column per name.

        Returns
        -------
        ndarray of float32, shape (n_rows, n_features_out)
            One embedding per row.

        Raises
        ------
        ValueError
            If a column does not exist.
        BadSampleError
            If a sample cannot be read; the message names its row in this batch.
        """
        _refuse_absent([self.column], batch)
        samples = list(batch[self.column])
        if not samples:
            return np.empty((0, self.extractor._n_features_out), dtype=np.float32)
        return np.asarray(self.extractor.transform(samples), dtype=np.float32)

    def kept(self, batch: Any) -> list[str]:
        """Get the names of the columns that are kept.

        Parameters
        ----------
        batch : dict of str to ndarray, or DataFrame
            Rows of the table, with one entry or column per name.

        Returns
        -------
        list of str
            Names of the columns.

        Raises
        ------
        ValueError
            If a column of ``keep`` does not exist.
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
    """Write the embeddings of a Dask collection to Parquet files, one per partition, resuming after interruptions.

    Use it for data sets of images, texts or audio that are too large for memory. It runs on the workers of the active
    Dask client, or else in threads of this process. Each worker loads the backbone once and holds as many partitions as
    it has threads. A file appears only once it is complete. If the function is called again with the same arguments,
    for example after a crash, it verifies that existing files belong to their partitions and computes the missing ones.
    Requires the extra ``distributed``.

    Parameters
    ----------
    extractor : PretrainedFeatureExtractor
        Extractor that computes the embeddings, fitted or not. ``cache="memory"`` is replaced by None, since each sample
        occurs once. ``dtype="auto"`` is resolved in this process, for all workers.
    collection : dask DataFrame, Series or Bag
        Collection of samples, or of rows (in a Bag: dicts) that hold them in ``column``. The size of the partitions
        determines the memory that a worker needs.
    folder : path-like
        Folder to write to, which is created if necessary. All workers must see it under this path.
    column : str, default=None
        Name of the column that holds the samples. None means that the collection holds nothing else.
    keep : list of str, default=None
        Names of the columns to write in addition to the embeddings. None writes all columns except ``column``.

    Returns
    -------
    list of Path
        Files in the order of the partitions. ``pandas.read_parquet(folder)`` reads them all; the features are float32
        columns whose names start with ``column``.

    Raises
    ------
    MissingDependencyError
        If dask, pandas or pyarrow is not installed.
    ValueError
        If a column does not exist, or if the folder holds embeddings of other samples, of another backbone or layer, or
        of other partitions.
    BlockingIOError
        If another process is writing to the folder.
    FileNotFoundError
        If the workers wrote to another folder than this process sees.
    BadSampleError
        If a sample cannot be read; the message names its row and partition. Completed files are kept.

    See Also
    --------
    BatchExtractor : Compute embeddings in Ray Data and Spark.

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
    extract = BatchExtractor(_with_choices_made(extractor), SAMPLE if column is None else column, keep=keep)
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


def _with_choices_made(extractor: PretrainedFeatureExtractor) -> PretrainedFeatureExtractor:
    """With the dtype and the runtime that are ``"auto"`` here, so that they are the same in every worker."""
    extractor._validate_params()
    stages = extractor._frozen_stages(extractor._loaded_backbone())
    return clone(extractor).set_params(dtype=stages.dtype_name, runtime=stages.runtime.name)


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
    windows = extractor._resolved_window_pooling(backbone)
    parameters = ("image_shape", "sampling_rate", "missing", "on_bad_sample", "dtype")
    description = {
        "format": FORMAT,
        "backbone": backbone.fingerprint,
        "layer": [backbone.stage_names[boundary - 1] for boundary in extractor._boundaries(backbone)],
        "pooling": extractor._resolved_pooling(backbone),
        **({} if windows == "mean" else {"window_pooling": windows}),
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
    """True if a partition has its file; one that is damaged does not count.

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
