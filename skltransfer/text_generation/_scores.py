"""How alike written texts and right ones are."""

from typing import Any

from skltransfer._estimators.target_checks import compared_texts
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
    truth, found = compared_texts(y_true, y_pred)
    if not any(truth) and not any(found):
        return 1.0  # nothing was to be written, and nothing was
    return sacrebleu.corpus_chrf(found, [truth]).score / 100
