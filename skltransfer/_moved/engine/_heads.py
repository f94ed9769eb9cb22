"""Where pickles from before version 0.1 look for what has moved."""

from skltransfer._moved import forwarding

__getattr__ = forwarding(
    __name__,
    {
        "ClassificationHead": "skltransfer.engine.tasks.classification:ClassificationHead",
        "MultilabelHead": "skltransfer.engine.tasks.multilabel:MultilabelHead",
        "RegressionHead": "skltransfer.engine.tasks.regression:RegressionHead",
    },
)
