"""Features on Dask, Ray and Spark: each row once, files whole or not at all, killed runs that go on."""

import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import time

import dask
import dask.bag
import dask.dataframe
import filelock
import joblib
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
from conftest import png
from dask.distributed import Client, LocalCluster
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate

from skltransfer import (
    ActivationStore,
    BatchExtractor,
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    extract_to_parquet,
)
from skltransfer.backbones import _registry
from skltransfer.engine import folder_store
from skltransfer.exceptions import BadSampleError, MissingDependencyError


@pytest.fixture
def extractor():
    return PretrainedFeatureExtractor("toy:images", dtype="float32")


@pytest.fixture(autouse=True)
def _in_this_thread_and_as_it_is():
    with dask.config.set({"scheduler": "synchronous", "dataframe.convert-string": False}):  # bytes stay bytes
        yield


@pytest.fixture
def table(photos):
    """A frame of an id and encoded photos, with an index of its own."""
    return pd.DataFrame({"id": np.arange(12) * 10, "photo": [png(photo) for photo in photos]}, np.arange(12) + 100)


@pytest.fixture
def in_parts(table):
    return dask.dataframe.from_pandas(table, npartitions=3)


def read(folder):
    return pd.read_parquet(folder)


def parts(folder):
    """When each file was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}


# Batches


def test_a_batch_of_arrays_gains_features_and_loses_its_samples(extractor, photos):
    batch = BatchExtractor(extractor, "photo")({"id": np.arange(12), "photo": photos})
    assert list(batch) == ["id", "features"]
    np.testing.assert_array_equal(batch["features"], extractor.transform(photos))


def test_a_batch_of_rows_keeps_what_it_is_told_and_its_index(extractor, table, photos):
    batch = BatchExtractor(extractor, "photo", keep=["photo"], output="vector")(table)
    assert list(batch) == ["photo", "vector"]
    assert batch.index.equals(table.index)
    np.testing.assert_array_equal(np.stack(batch["vector"]), extractor.transform(photos))


def test_an_iterator_of_frames_is_mapped_as_spark_does(extractor, table, photos):
    extract = pickle.loads(pickle.dumps(BatchExtractor(extractor, "photo")))
    frames = list(map(extract, iter([table[:5], table[5:5], table[5:]])))
    assert [len(frame) for frame in frames] == [5, 0, 7]
    np.testing.assert_array_equal(np.stack(pd.concat(frames)["features"]), extractor.transform(photos))


def test_it_travels_light_and_remembers_nothing(extractor, photos):
    extract = BatchExtractor(extractor, "photo")
    assert len(pickle.dumps(extract)) < 2_000
    assert extract.extractor.cache is None
    assert extractor.cache == "memory"


def test_a_folder_of_activations_is_kept_so_that_nothing_is_run_twice(extractor, photos, tmp_path):
    store = ActivationStore(tmp_path)
    extract = BatchExtractor(extractor.set_params(cache=store), "photo")
    for start in (0, 4, 0, 8):
        extract({"photo": photos[start : start + 4]})
    assert store.info()["misses"] == 12


def test_a_column_that_is_not_there_is_refused_with_those_that_are(extractor, photos):
    with pytest.raises(ValueError, match=r"no column 'image'; there are \['photo'\]"):
        BatchExtractor(extractor, "image")({"photo": photos})
    with pytest.raises(ValueError, match=r"no column 'id'; there are \['photo'\]"):
        BatchExtractor(extractor, "photo", keep=["id"])({"photo": photos})
    with pytest.raises(ValueError, match="'extractor' parameter of BatchExtractor.* must be an instance of"):
        BatchExtractor(FineTunedClassifier(), "photo")


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    ray.init(num_cpus=3, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_data_maps_batches_in_two_actors_and_goes_on_by_the_folder(ray, extractor, photos, tmp_path):
    extractor.set_params(cache=str(tmp_path / "store"))
    extractor.transform(photos[:5])  # what a run that was killed left
    rows = ray.data.from_items(
        [{"id": i, "photo": png(photo)} for i, photo in enumerate(photos)], override_num_blocks=3
    )
    features = rows.map_batches(
        BatchExtractor,
        fn_constructor_args=[extractor, "photo"],
        batch_size=4,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    features.write_parquet(str(tmp_path / "features"))
    found = read(tmp_path / "features").sort_values("id")
    assert found["id"].tolist() == list(range(12))
    np.testing.assert_array_equal(np.stack(found["features"]), extractor.set_params(cache=None).transform(photos))
    assert ActivationStore(tmp_path / "store").info()["samples"] == 12


# Partitions


def test_a_frame_becomes_a_file_per_partition_with_the_features_of_one_process(
    extractor, table, in_parts, photos, tmp_path
):
    files = extract_to_parquet(extractor, in_parts, tmp_path, column="photo")
    assert [file.name for file in files] == [f"part-0000{i}.parquet" for i in range(3)]
    found = read(tmp_path)
    assert list(found.columns) == ["id", *(f"photo_{i:02d}" for i in range(32))]
    pd.testing.assert_series_equal(found["id"], table["id"])  # the index too
    np.testing.assert_array_equal(found.drop(columns="id"), extractor.transform(photos))


@pytest.mark.parametrize("kind", ["bag of samples", "bag of dicts", "series"])
def test_bags_and_series_are_read_too(extractor, photos, in_parts, tmp_path, kind):
    collection = {
        "bag of samples": dask.bag.from_sequence(list(photos), npartitions=3),
        "bag of dicts": dask.bag.from_sequence([{"photo": photo, "id": i} for i, photo in enumerate(photos)]),
        "series": in_parts["photo"],
    }[kind]
    column = "photo" if kind == "bag of dicts" else None
    extract_to_parquet(extractor, collection, tmp_path, column=column, keep=[])
    found = read(tmp_path)
    assert found.columns[0] == f"{column or 'sample'}_00"
    np.testing.assert_array_equal(found, extractor.transform(photos))


def test_partitions_without_rows_have_files_without_rows(extractor, in_parts, tmp_path):
    nothing = in_parts[in_parts["id"] < 40]
    extract_to_parquet(extractor, nothing, tmp_path / "frame", column="photo")
    assert read(tmp_path / "frame").shape == (4, 33)
    bag = dask.bag.from_sequence(range(4), npartitions=2).filter(lambda i: i > 5)
    files = extract_to_parquet(extractor, bag, tmp_path / "bag")
    assert [pyarrow.parquet.read_metadata(file).num_rows for file in files] == [0, 0]


class DeathError(Exception):
    pass


@pytest.fixture
def dies_in_the_second_partition(monkeypatch):
    calls = []

    def features(self, rows):
        calls.append(len(rows))
        if len(calls) == 2:
            raise DeathError
        return original(self, rows)

    original = BatchExtractor.features
    monkeypatch.setattr(BatchExtractor, "features", features)
    return calls


def test_a_run_that_ended_early_goes_on_and_computes_no_row_twice(
    extractor, in_parts, tmp_path, dies_in_the_second_partition
):
    with pytest.raises(DeathError) as caught:
        extract_to_parquet(extractor, in_parts, tmp_path, column="photo")
    assert re.fullmatch(r"while reading the partition of part-0000\d.parquet", *caught.value.__notes__)
    (tmp_path / "part-00001.parquet.0123.part").write_bytes(b"half of it")  # what SIGKILL leaves
    (name, when), *others = parts(tmp_path).items()
    assert not others
    extract_to_parquet(extractor, in_parts, tmp_path, column="photo")
    assert dies_in_the_second_partition == [4, 4, 4, 4]  # one partition twice, since it died
    assert parts(tmp_path)[name] == when
    assert sorted(read(tmp_path)["id"]) == list(range(0, 120, 10))
    assert not list(tmp_path.glob("*.part"))
    extract_to_parquet(extractor, in_parts, tmp_path, column="photo")
    assert len(dies_in_the_second_partition) == 4


def test_a_sample_that_cannot_be_read_is_named_with_its_partition(client, extractor, table, tmp_path):
    table["photo"] = table["photo"].where(table["id"] != 60, b"no picture")
    in_parts = dask.dataframe.from_pandas(table, npartitions=3)
    with dask.config.set(scheduler=client), pytest.raises(BadSampleError, match=r"X\[2\]") as caught:
        extract_to_parquet(extractor, in_parts, tmp_path, column="photo")
    assert caught.value.__notes__ == ["while reading the partition of part-00001.parquet"]


def test_a_file_that_is_damaged_is_written_anew(extractor, in_parts, tmp_path):
    files = extract_to_parquet(extractor, in_parts, tmp_path, column="photo")
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:100])
    extract_to_parquet(extractor, in_parts, tmp_path, column="photo")
    assert files[1].read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": "random:1"}, "backbone="),
        ({"layer": "block1"}, r"layer=\['block3'\]; this call has layer=\['block1'\]"),
        ({"layer": ["block1", "penultimate"]}, "layer="),
        ({"pooling": "max"}, "pooling='mean'; this call has pooling='max'"),
        ({"dtype": "bfloat16"}, "dtype='float32'; this call has dtype='bfloat16'"),
        ({"on_bad_sample": "nan"}, "on_bad_sample='raise'"),
        ({"missing": "zero"}, "missing='raise'"),
    ],
)
def test_a_folder_of_another_extractor_is_refused(extractor, in_parts, tmp_path, change, named):
    (first, *_) = extract_to_parquet(extractor, in_parts, tmp_path, column="photo")
    before = first.read_bytes()
    with pytest.raises(ValueError, match=rf"was begun with {named}.*choose another folder"):
        extract_to_parquet(extractor.set_params(**change), in_parts, tmp_path, column="photo")
    assert first.read_bytes() == before


def test_a_folder_of_other_rows_or_partitions_is_refused(extractor, table, in_parts, tmp_path):
    extract_to_parquet(extractor, in_parts, tmp_path, column="photo")
    with pytest.raises(ValueError, match="was begun with n_partitions=3; this call has n_partitions=2"):
        extract_to_parquet(extractor, dask.dataframe.from_pandas(table, npartitions=2), tmp_path, column="photo")
    with pytest.raises(ValueError, match=r"was begun with keep=None; this call has keep=\['id'\]"):
        extract_to_parquet(extractor, in_parts, tmp_path, column="photo", keep=["id"])
    for other in (table[::-1], table.assign(id=0)):
        with pytest.raises(ValueError, match=r"part-0000\d.parquet' was made from other rows than its partition has"):
            extract_to_parquet(
                extractor, dask.dataframe.from_pandas(other, npartitions=3, sort=False), tmp_path, column="photo"
            )


def test_a_folder_with_files_of_someone_else_is_refused(extractor, in_parts, tmp_path):
    (tmp_path / "mine.parquet").touch()
    with pytest.raises(ValueError, match=r"holds 'mine.parquet' of someone else"):
        extract_to_parquet(extractor, in_parts, tmp_path, column="photo")


def test_one_process_at_a_time_writes_into_a_folder(extractor, in_parts, tmp_path):
    with (
        filelock.FileLock(tmp_path / "_lock"),
        pytest.raises(BlockingIOError, match="Another process extracts into .* Wait for it"),
    ):
        extract_to_parquet(extractor, in_parts, tmp_path, column="photo")


def test_an_address_is_not_taken_for_a_folder(extractor, in_parts):
    with pytest.raises(ValueError, match="a path that all workers see, got 's3://bucket/features'. Mount it"):
        extract_to_parquet(extractor, in_parts, "s3://bucket/features", column="photo")


def test_columns_are_refused_before_anything_is_read(extractor, in_parts, tmp_path):
    with pytest.raises(ValueError, match=r"column must name .* there are \['id', 'photo'\]"):
        extract_to_parquet(extractor, in_parts, tmp_path)
    with pytest.raises(ValueError, match=r"no column 'image'; there are \['id', 'photo'\]"):
        extract_to_parquet(extractor, in_parts, tmp_path, column="image")
    with pytest.raises(ValueError, match="'collection' parameter of extract_to_parquet must be an object implementing"):
        extract_to_parquet(extractor, [1, 2], tmp_path)
    assert os.listdir(tmp_path) == []


def test_workers_that_write_somewhere_else_are_noticed(extractor, in_parts, tmp_path, monkeypatch):
    monkeypatch.setattr("skltransfer.distributed._write", _writes_nowhere)
    with pytest.raises(FileNotFoundError, match=r"3 of 3 files were written somewhere else, .*part-00000.parquet"):
        extract_to_parquet(extractor, in_parts, tmp_path, column="photo")


def _writes_nowhere(extract, partition, path):
    return None


@pytest.mark.parametrize("library", ["dask", "pandas", "pyarrow"])
def test_a_missing_library_is_named_with_its_extra(extractor, in_parts, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"{library}.*pip install 'skltransfer\[distributed\]'"):
        extract_to_parquet(extractor, in_parts, tmp_path, column="photo")


# A run that is killed

KILLED = """
import sys
import dask.bag
import numpy as np
from skltransfer import PretrainedFeatureExtractor, extract_to_parquet

def row(i):
    return {"id": i, "photo": np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)}

rows = dask.bag.range(2000, npartitions=40).map(row)
extract_to_parquet(PretrainedFeatureExtractor("toy:images", dtype="float32"), rows, sys.argv[1], column="photo")
"""


def started(folder):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(pathlib.Path(__file__).parent.parent)}
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", KILLED, str(folder)], env=environment)


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_and_ends_with_the_files_of_one_that_was_not(tmp_path):
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    child = started(killed)
    while len(parts(killed)) < 5 and child.poll() is None:
        time.sleep(0.01)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    before = parts(killed)
    assert 5 <= len(before) < 40
    assert started(killed).wait() == 0
    assert parts(killed).items() >= before.items()  # not written again
    assert started(undisturbed).wait() == 0
    for name in parts(undisturbed):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()
    assert read(killed)["id"].tolist() == list(range(2000))
    assert sorted(os.listdir(killed)) == sorted(os.listdir(undisturbed))  # no drafts


# A search in workers


@pytest.fixture(scope="module")
def client():
    """Of two worker processes of one thread each, which nobody tells how many threads torch has."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            patch.delenv(name, raising=False)
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def task():
    """60 pictures, 1.1 MB."""
    rng = np.random.default_rng(0)
    X, y = rng.random((60, 48, 48)) * 0.8, np.arange(60) % 2
    X[y == 0, :24] += 0.2
    return X, y


def model(**parameters):
    return FineTunedClassifier("toy:images", max_epochs=2, random_state=0, dtype="float32", **parameters)


OPTIONS = {"cv": 2, "scoring": "neg_log_loss", "error_score": "raise"}
SEARCHES = {
    "grid": lambda cache: GridSearchCV(model(cache=cache), {"freeze_depth": [1.0, 0.5], "C": [0.01, 1.0]}, **OPTIONS),
    "halving": lambda cache: HalvingGridSearchCV(
        model(cache=cache), {"freeze_depth": [1.0, 0.5]}, min_resources=20, random_state=0, **OPTIONS
    ),
}


def in_worker(folder):
    """Samples that a worker computed, backbones that it holds, threads that it gives to torch."""
    names = [key[0] for key in _registry._loaded]
    return folder_store(folder).info()["misses"], names, torch.get_num_threads()


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_search_in_dask_workers_scores_as_one_process_does(client, task, tmp_path, kind):
    expected = SEARCHES[kind]("memory").fit(*task)
    with joblib.parallel_config("dask"):
        found = SEARCHES[kind](tmp_path).fit(*task)
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], atol=1e-6)
    assert found.best_params_ == expected.best_params_


def test_a_validation_in_dask_workers_scores_as_one_process_does(client, task, tmp_path):
    expected = cross_validate(model(cache=None), *task, **OPTIONS)["test_score"]
    with joblib.parallel_config("dask"):
        found = cross_validate(model(cache=tmp_path), *task, **OPTIONS)["test_score"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_each_sample_passes_the_frozen_stages_once_and_each_worker_loads_one_backbone(client, task, tmp_path):
    grid = {"C": [0.01, 0.1, 1.0], "label_smoothing": [0.0, 0.1]}
    with joblib.parallel_config("dask"):
        GridSearchCV(model(freeze_depth=1.0, cache=str(tmp_path)), grid, **OPTIONS, refit=False).fit(*task)
    computed, names, threads = zip(*client.run(in_worker, str(tmp_path)).values(), strict=True)
    assert sum(computed) == len(task[0])
    assert names == (["toy:images"], ["toy:images"])
    assert threads == (1, 1)  # Dask gives each of its threads one


def test_what_travels_to_a_worker_is_a_name(task):
    assert len(pickle.dumps(model(cache="a folder"))) < 2_000


class _KillsItsWorkerOnce:
    """A scorer: in the middle of a search, as the system does when memory is short."""

    def __init__(self, flag):
        self.flag = flag

    def __call__(self, estimator, X, y):
        if estimator.freeze_depth == 0.5 and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return -log_loss(y, estimator.predict_proba(X))


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_of_a_search_leaves_the_scores(client, task, tmp_path):
    expected = SEARCHES["grid"]("memory").fit(*task)
    search = SEARCHES["grid"](tmp_path / "store").set_params(scoring=_KillsItsWorkerOnce(tmp_path / "flag"))
    before = client.run(os.getpid)
    with joblib.parallel_config("dask", scatter=list(task)):  # a copy in each worker, so that the other has one
        search.fit(*task)
    client.wait_for_workers(2)
    assert len(set(client.run(os.getpid).values()) & set(before.values())) == 1
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], atol=1e-6
    )
