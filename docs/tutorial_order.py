"""The order of the tutorials, for sphinx-gallery."""

LESSONS = ["first_transfer", "how_deep", "deep_features", "does_transfer_help", "new_camera", "few_labels"]


def lesson(filename: str) -> int:
    """The number of a tutorial."""
    return LESSONS.index(str(filename).removesuffix(".py"))
