"""A program as users write it: `make lint` checks that its types are what the documentation says. It is not run."""

from pathlib import Path
from typing import assert_type

import numpy as np

import skltransfer
from skltransfer import (
    ActivationStore,
    Backbone,
    ELMClassifier,
    FeatureAdaptedClassifier,
    FewShotClassifier,
    FineTunedClassifier,
    FineTunedRegressor,
    FreezeDepthDisplay,
    MultiTaskFineTuner,
    PretrainedFeatureExtractor,
    describe_backbone,
    export_onnx,
    freeze_depth_grid,
    list_backbones,
    load_backbone,
    load_image_folder,
    score_transferability,
    transfer_report,
)
from skltransfer.exceptions import BadSampleError
from skltransfer.model_selection import TransferabilityRanking, TransferReport, probe_score

assert_type(skltransfer.__version__, str)

paths, labels = load_image_folder("photos")
names: list[str] = list_backbones(modality="image")
backbone = load_backbone("torchvision:resnet18", weights="random:0")
assert_type(backbone, Backbone)
print(describe_backbone("bundled:efficientnet-lite0"), backbone.stage_names)

store = ActivationStore("64 MiB")
extractor = PretrainedFeatureExtractor(backbone, layer=["layer3", 1.0], cache=store, verbose=1)
assert_type(extractor.fit(paths), PretrainedFeatureExtractor)
assert_type(extractor.transform(paths), np.ndarray)

model = FineTunedClassifier(freeze_depth="auto", max_epochs=3, class_weight="balanced", random_state=0)
fitted = model.fit(paths, labels, sample_weight=np.ones(len(labels)))
assert_type(fitted, FineTunedClassifier)
assert_type(model.predict(paths), np.ndarray)
assert_type(model.predict_proba(paths), np.ndarray)
model.save(Path("model.skl"))
export_onnx(model, "model.onnx")

FineTunedRegressor("bundled:minilm", alpha=1.0).fit(["a", "b"], [0.0, 1.0])
FewShotClassifier(method="contrastive").fit(paths, labels)
MultiTaskFineTuner(tasks={"kind": "classification"}).fit(paths, labels)
FeatureAdaptedClassifier(ELMClassifier(), align="coral")
FreezeDepthDisplay(boundaries=np.arange(2), scores=np.zeros((2, 3)), stage_names=("stem", "head")).plot()

assert_type(transfer_report(model, paths, labels), TransferReport)
assert_type(score_transferability(["bundled:efficientnet-lite0"], paths, labels), TransferabilityRanking)
assert_type(probe_score(np.zeros((4, 2)), np.array([0, 1, 0, 1])), float)
grid = freeze_depth_grid(backbone, 3)

try:
    extractor.transform([b"no image"])
except BadSampleError as error:
    print(error.row)

FineTunedClassifier(max_epochs="many")  # type: ignore[arg-type]
