"""Where pickles from before version 0.1 look for what has moved."""

from skltransfer._moved import forwarding

__getattr__ = forwarding(
    __name__,
    {
        "ClassificationHead": "skltransfer.engine.tasks.classification:ClassificationTask",
        "MultilabelHead": "skltransfer.engine.tasks.multilabel:MultilabelTask",
        "RegressionHead": "skltransfer.engine.tasks.regression:RegressionTask",
    },
)
