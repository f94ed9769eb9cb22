"""How alike written texts and right ones are."""

from typing import Any

from sklearn.utils import check_consistent_length

from skltransfer._estimators.target_checks import rows_of, texts_of
from skltransfer.exceptions import MissingDependencyError


def chrf_score(y_true: Any, y_pred: Any) -> float:
    """F-score of character n-grams (chrF) of written texts, by sacrebleu.

    Counts of the character n-grams of 1 to 6 characters are summed over all texts; recall counts twice as much as
    precision [1]_. Spaces are left out. The score needs no tokenizer, and is used for any language.

    Parameters
    ----------
    y_true, y_pred : sequence of str
        Right and written texts.

    Returns
    -------
    float
        Score in [0, 1]; higher is better. sacrebleu states it in percent.

    Raises
    ------
    MissingDependencyError
        If sacrebleu is not installed.
    ValueError
        If numbers of texts differ, there is none, or one is no string.

    References
    ----------
    .. [1] M. Popović (2015), "chrF: character n-gram F-score for automatic MT evaluation", WMT.

    Examples
    --------
    >>> from skltransfer import chrf_score
    >>> round(chrf_score(["the house is red"], ["the house was red"]), 2)
    0.64
    """
    try:
        import sacrebleu
    except ImportError as error:
        raise MissingDependencyError("chrf_score needs sacrebleu: pip install 'skltransfer[translation]'.") from error
    truth, found = texts_of(rows_of(y_true, "y_true"), "y_true"), texts_of(rows_of(y_pred, "y_pred"), "y_pred")
    check_consistent_length(truth, found)
    if not len(truth):
        raise ValueError("y_true holds no text to compare with. Pass at least one.")
    if not any(truth) and not any(found):
        return 1.0  # nothing was to be written, and nothing was
    return sacrebleu.corpus_chrf(found.tolist(), [truth.tolist()]).score / 100
