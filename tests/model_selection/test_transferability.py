"""Rankings of candidates: one pass, the same folds, and no winner whom the folds do not tell from another."""

import sys

import numpy as np
import pytest
from networks import TINY_PHOTO, WEIGHTS, tiny_photo
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from torchvision import models

from skltransfer import (
    ActivationStore,
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    load_backbone,
    score_transferability,
)
from skltransfer.backbones import _torchvision
from skltransfer.exceptions import BackboneNotFoundError, BadSampleError
from skltransfer.model_selection import (
    TransferabilityCandidate,
    TransferabilityRanking,
    knn_score,
    leep_score,
    log_me_score,
    nce_score,
    probe_score,
)

EVERY_METRIC = ["probe", "knn", "log_me", "h", "trans_rate"]


def candidate(name: str, *fold_scores: float) -> TransferabilityCandidate:
    mean = float(np.mean(fold_scores))
    return TransferabilityCandidate(name, name, "last", 8, mean, 0.1, fold_scores, {"probe": mean}, None, None, 0.1)


def ranking_of(*candidates: TransferabilityCandidate, test_share: float | None = 0.25) -> TransferabilityRanking:
    return TransferabilityRanking(candidates, ("probe",), 100, test_share)


def test_each_sample_passes_a_backbone_once_whatever_the_layers_and_metrics(two_kinds):
    X, y = two_kinds
    store = ActivationStore()
    extractor = PretrainedFeatureExtractor(cache=store)
    score_transferability(["toy:images"], X, y, EVERY_METRIC, layers="all", extractor=extractor)
    assert store.info()["misses"] == len(X)
    score_transferability("toy:images", X, y, layers=["block2"], extractor=extractor)
    assert store.info()["misses"] == len(X)


def test_scores_are_those_of_the_plain_functions_on_the_extractors_features(two_kinds):
    X, y = two_kinds
    found = score_transferability("toy:images", X, y, ["knn", "probe", "log_me"], layers=["block1", "block3"], cv=4)
    for one in found.candidates:
        features = PretrainedFeatureExtractor(one.backbone, layer=one.layer).transform(X)
        assert one.n_features == features.shape[1]
        assert one.score == one.scores["knn"] == pytest.approx(knn_score(features, y, cv=4))
        assert one.scores["probe"] == pytest.approx(probe_score(features, y, cv=4))
        assert one.scores["log_me"] == pytest.approx(log_me_score(features, y))
        assert one.score == pytest.approx(np.mean(one.fold_scores))
    assert [one.score for one in found.candidates] == sorted((one.score for one in found.candidates), reverse=True)


def test_what_is_ranked_goes_into_the_estimators(two_kinds):
    X, y = two_kinds
    backbones = ["toy:images", load_backbone("toy:images", weights="random:1")]
    first = score_transferability(backbones, X, y).candidates[0]
    assert first.backbone in backbones
    model = make_pipeline(PretrainedFeatureExtractor(first.backbone, layer=first.layer), LogisticRegression())
    assert model.fit(X, y).score(X, y) > 0.9
    assert FineTunedClassifier(first.backbone, freeze_depth=first.layer, max_epochs=1).fit(X, y).score(X, y) > 0.5


def test_all_candidates_meet_the_same_folds(two_kinds):
    X, y = two_kinds
    cv = KFold(4, shuffle=True, random_state=np.random.RandomState(0))  # another split each time it is asked
    one, other = score_transferability(["toy:images"] * 2, X, y, cv=cv, layers=["block3"]).candidates
    assert one.fold_scores == other.fold_scores


def test_the_standard_error_knows_that_training_parts_overlap(two_kinds):
    X, y = two_kinds
    y = np.where(np.arange(40) % 3 == 0, y[::-1], y)  # so that folds differ
    (found,) = score_transferability("toy:images", X, y, layers=["block1"], cv=4).candidates
    spread = np.std(found.fold_scores, ddof=1)
    assert spread > 0
    assert found.standard_error == pytest.approx(spread * np.sqrt(1 / 4 + 10 / 30))


def test_a_winner_is_named_only_where_the_interval_of_the_difference_leaves_out_zero():
    folds = np.array([0.70, 0.80, 0.75, 0.72, 0.78])
    differences = np.array([0.05, 0.02, 0.03, 0.06, 0.04])
    reach = student.ppf(0.975, 4) * differences.std(ddof=1) * np.sqrt(1 / 5 + 0.25)
    for shift, is_told in ((1.01 * reach, True), (0.99 * reach, False)):
        behind = folds - (differences - differences.mean() + shift)
        found = ranking_of(candidate("first", *folds), candidate("second", *behind))
        assert (found.winner is not None) == is_told
        assert ("Winner, by 95 % intervals over 5 folds: first" in str(found)) == is_told
        assert ("No winner: by 95 % intervals over 5 folds, 1 of the others may be as good" in str(found)) != is_told


def test_contenders_are_those_that_are_not_told_from_the_first():
    good, bad = (0.9, 0.8, 0.85, 0.9, 0.8), (0.5, 0.4, 0.45, 0.5, 0.41)
    near = (0.8, 0.9, 0.8, 0.85, 0.89)
    found = ranking_of(candidate("good", *good), candidate("near", *near), candidate("bad", *bad))
    assert [one.name for one in found.contenders] == ["good", "near"]


def test_candidates_that_are_alike_are_not_told_apart(two_kinds):
    X, y = two_kinds
    assert score_transferability(["toy:images"] * 2, X, y, layers=["block3"]).winner is None


def test_a_metric_without_folds_names_no_winner(two_kinds):
    X, y = two_kinds
    found = score_transferability("toy:images", X, y, "log_me", layers=["stem", "block3"])
    assert found.winner is None
    assert {one.standard_error for one in found.candidates} == {None}
    assert "No winner is named: log_me gives no interval" in str(found)


def test_one_candidate_has_nothing_to_be_compared_with(two_kinds):
    X, y = two_kinds
    assert "One candidate: nothing to compare." in str(score_transferability("toy:images", X, y, layers=[1.0]))


def test_layers_are_stages_by_name_by_fraction_all_or_four_of_them(two_kinds):
    X, y = two_kinds

    def layers(wanted) -> set[str]:
        return {one.layer for one in score_transferability(tiny_photo(), X, y, "knn", layers=wanted).candidates}

    assert layers("auto") == {"block1", "block4", "block6", "block8"}
    assert layers("all") == set(tiny_photo().stage_names)
    assert layers(["stem", 0.5, 1.0, "penultimate", "block8"]) == {"stem", "block4", "block8"}


def test_source_accuracy_stands_beside_scores_where_it_is_known(two_kinds):
    X, y = two_kinds
    random = load_backbone(TINY_PHOTO, weights="random:1", input_size=40)
    found = score_transferability([tiny_photo(), random], X, y, "knn", layers=[1.0])
    known = {one.name: (one.source_domain, one.source_accuracy) for one in found.candidates}
    assert known[f"{TINY_PHOTO} ({WEIGHTS})"] == ("Tiny-ImageNet", pytest.approx(0.5092))
    assert known[f"{TINY_PHOTO} (random:1, 40 px)"] == (None, None)
    assert "50.9% Tiny-ImageNet" in str(found)
    assert "unknown" in str(found)


def test_torchvision_tells_the_accuracy_of_its_weights():
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    assert _torchvision._accuracy_of(weights) == ("ImageNet-1K", pytest.approx(0.69758))
    detection = models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    assert _torchvision._accuracy_of(detection) is None
    assert load_backbone("torchvision:squeezenet1_1", weights="random").source_accuracy is None


def test_leep_and_nce_read_the_pretrained_head(two_kinds):
    X, y = two_kinds
    backbone = tiny_photo()
    (found,) = score_transferability(backbone, X, y, ["leep", "nce"]).candidates
    samples = [np.rint(np.repeat(picture[..., None], 3, axis=2) * 255).astype(np.uint8) for picture in X]
    inputs = [backbone.preprocessing(sample) for sample in samples]
    proba = np.vstack([backbone.source_outputs(x[None]).double().softmax(1).numpy() for x in inputs])
    assert found.layer == "block8"
    assert found.scores["leep"] == pytest.approx(leep_score(proba, y), abs=1e-4)
    assert found.scores["nce"] == pytest.approx(nce_score(proba.argmax(axis=1), y), abs=1e-4)


def test_leep_is_refused_where_there_is_no_pretrained_head(two_kinds):
    X, y = two_kinds
    with pytest.raises(ValueError, match=r"metric='leep' reads the head .* 'toy:images' has none .* Choose another"):
        score_transferability("toy:images", X, y, ["probe", "leep"])


def test_numbers_texts_and_tables_are_ranked_too(two_kinds):
    X, _ = two_kinds
    brightness = X[:, :8].mean(axis=(1, 2)) + 0.5
    found = score_transferability("toy:images", X, brightness)
    assert found.candidates[0].score > 0.5
    assert found.candidates[0].scores.keys() == {"probe", "log_me"}
    whole = np.rint(100 * brightness)
    assert score_transferability("toy:images", X, whole, task="regression").candidates[0].score > 0.5
    texts = ["aaaa", "zzzz"] * 10
    assert score_transferability("toy:text", texts, ["a", "z"] * 10).candidates[0].score == 1.0
    as_pictures = PretrainedFeatureExtractor(image_shape=(16, 16))
    flat = score_transferability("toy:images", X.reshape(40, -1), brightness, extractor=as_pictures)
    assert flat.candidates[0].scores == pytest.approx(found.candidates[0].scores)


def test_several_outputs_are_ranked(two_kinds):
    X, y = two_kinds
    many = np.stack([y == "above", y == "below"], axis=1).astype(int)
    assert score_transferability("toy:images", X, many).candidates[0].score > 0.8


def test_the_template_is_left_as_it_was(two_kinds):
    X, y = two_kinds
    template = PretrainedFeatureExtractor("toy:rows", pooling="max", cache=None)
    before = template.get_params()
    pooled = score_transferability("toy:images", X, y, "log_me", layers=[1.0], extractor=template).candidates[0].score
    assert template.get_params() == before
    features = PretrainedFeatureExtractor("toy:images", pooling="max").transform(X)
    assert pooled == pytest.approx(log_me_score(features, y))


def test_a_frame_has_one_row_per_candidate_and_a_column_per_metric(two_kinds):
    X, y = two_kinds
    found = score_transferability("toy:images", X, y, layers=["stem", "block3"])
    frame = found.to_frame()
    assert len(frame) == 2
    assert {"name", "layer", "n_features", "score", "standard_error", "probe", "log_me", "seconds"} <= set(frame)
    assert list(frame["score"]) == [one.score for one in found.candidates]


class WithoutPandas:
    """A finder that says that pandas is not there."""

    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ImportError("no pandas here")


def test_a_ranking_needs_no_pandas(two_kinds, monkeypatch):
    X, y = two_kinds
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    monkeypatch.setattr(sys, "meta_path", [WithoutPandas(), *sys.meta_path])
    found = score_transferability("toy:images", X, y, layers=[1.0])
    assert "toy:images" in str(found)
    with pytest.raises(ImportError, match="to_frame needs pandas: pip install pandas"):
        found.to_frame()


def test_the_text_is_a_table_with_the_number_of_samples_and_errors(two_kinds):
    X, y = two_kinds
    found = score_transferability("toy:images", X, y, layers=["stem", "block3"])
    head, columns, *rows = str(found).split("\n")[:4]
    assert head == "2 candidates on 40 samples, best first by probe ± standard error"
    assert columns.split()[:4] == ["backbone", "layer", "features", "probe"]
    assert len({len(row) for row in [columns, *rows]}) == 1
    assert all(" ± " in row for row in rows)


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_is_shown_on_request(two_kinds, verbose, capsys):
    X, y = two_kinds
    score_transferability("toy:images", X, y, layers=[1.0], verbose=verbose)
    assert ("backbones: 100%" in capsys.readouterr().err) == bool(verbose)


def test_wrong_requests_are_refused(two_kinds):
    X, y = two_kinds
    with pytest.raises(ValueError, match=r"metric must be one or several of \['probe', .*got \['probe', 'h_score'\]"):
        score_transferability("toy:images", X, y, ["probe", "h_score"])
    with pytest.raises(ValueError, match="The 'metric' parameter of score_transferability must be .* Got 'logme'"):
        score_transferability("toy:images", X, y, "logme")
    with pytest.raises(ValueError, match="metric='h' needs labels, but y holds numbers. Choose from .*'log_me'"):
        score_transferability("toy:images", X, np.arange(40), "h", task="regression")
    with pytest.raises(ValueError, match="backbones must name at least one candidate"):
        score_transferability([], X, y)
    with pytest.raises(ValueError, match="layers takes .* got 'block9'.*one of .*'block3'"):
        score_transferability("toy:images", X, y, layers=["block9"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        score_transferability("toy:images", X, y[:-1])
    with pytest.raises(BackboneNotFoundError, match="No toy backbone 'imagos'"):
        score_transferability("toy:imagos", X, y)
    with pytest.raises(BadSampleError, match=r"X\[0\] .*missing value"):
        score_transferability("toy:images", [None, *X[1:]], y)
