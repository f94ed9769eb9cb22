"""Where pickles from before version 0.1 look for what has moved."""

from skltransfer._moved import forwarding

__getattr__ = forwarding(
    __name__,
    {
        "MultiTaskHead": "skltransfer.engine.tasks.multi_task:MultiTask",
    },
)
