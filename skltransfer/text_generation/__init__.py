"""Texts that networks write: about other texts, or after a prompt; and how such texts are compared."""

from skltransfer.text_generation._language_model import FineTunedLanguageModel
from skltransfer.text_generation._scores import chrf_score
from skltransfer.text_generation._text_to_text import FineTunedTextToText

__all__ = ["FineTunedLanguageModel", "FineTunedTextToText", "chrf_score"]
