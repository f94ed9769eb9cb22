"""A progress bar where one is asked for, and nothing else."""

import pytest
from tqdm.auto import tqdm

from skltransfer._system.progress import progress_bar


def test_what_is_shown_is_a_bar(capsys):
    with progress_bar(total=2, desc="reading", shown=1) as progress:
        progress.update()
        progress.update()
    assert "reading: 100%" in capsys.readouterr().err


class _Refused:
    """A lock that nobody may take."""

    def __enter__(self):
        raise AssertionError("the lock was taken")

    def __exit__(self, *exception):
        pass


def test_what_is_not_shown_is_silent_and_takes_no_lock(capsys, monkeypatch):
    monkeypatch.setattr(tqdm, "_lock", _Refused(), raising=False)
    with pytest.raises(AssertionError, match="the lock was taken"):
        tqdm(range(3), disable=True)
    assert list(progress_bar(range(3), shown=0)) == [0, 1, 2]
    with progress_bar(total=2, shown=0) as progress:
        progress.update()
        progress.update(2)
    assert capsys.readouterr().err == ""
