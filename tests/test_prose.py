"""Pages are written in short, plain sentences, in words that users know or that the glossary explains."""

import prose
import pytest

PAGES = prose.pages()
EXPLAINS_ITSELF = ("CHANGELOG.md", "docs/glossary.md")  # of private words


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_short_sentences_and_plain_words(name):
    found = prose.measured(PAGES[name])
    assert found.mean <= 17
    assert found.share_long <= 0.1
    assert not found.avoided
    assert name in EXPLAINS_ITSELF or not found.undefined
    assert not found.headings


def test_what_is_odd_is_noticed():
    found = prose.measured("# What it runs with\n\nWhatever lies in the store is told, one probe at a time.\n")
    assert found.headings == ["What it runs with"]
    assert found.avoided == ["Whatever", "lies in", "is told"]
    assert found.undefined == ["probe"]
    assert found.n_passive == 1
    assert not prose.measured("# Cache activations\n\nA [probe](glossary.md#probe) reads features.\n").undefined
