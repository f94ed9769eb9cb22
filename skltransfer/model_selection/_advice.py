"""A report's words: why a verdict, what to try next, and what training's history warns of.

Must not know estimators or folds: records and lists of losses are all it sees.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from skltransfer.model_selection._comparison import HELPS, HURTS, LEAST_DISCORDANT, SAME, UNKNOWN

History = Mapping[str, Sequence[float]]
BY_HEART, RISE = 0.02, 1.1  # of the loss of one who guesses; of a loss's least value
FEWEST_EPOCHS = 3


def reason(verdict: str, records: Sequence[Mapping[str, Any]], margin: str) -> str:
    """One sentence that says what a verdict rests on.

    Parameters
    ----------
    records : sequence of mapping
        One per baseline.
    margin : str
        The region of practical equivalence, in words.
    """
    if verdict == HELPS:
        return f"ahead of every baseline by more than {margin} (p < .05 each, Holm-adjusted)."
    if verdict == SAME:
        equal = _names(records, SAME)
        return f"no better than {equal}: the whole interval lies within {margin} either way."
    if verdict == HURTS:
        return f"behind {_names(records, HURTS)} by more than {margin} (p < .05, Holm-adjusted)."
    return f"against {_names(records, UNKNOWN)} the data do not decide."


def advice(
    verdict: str,
    records: Sequence[Mapping[str, Any]],
    *,
    rope: float,
    trains_stages: bool,
    is_searched: bool,
    is_repeated: bool,
    place: str = "",
    is_frozen: bool = False,
) -> list[str]:
    """Suggestions of what to try next.

    Parameters
    ----------
    records : sequence of mapping
        One per baseline.
    rope : float
        Differences up to this size are none.
    trains_stages : bool
        True if stages of the backbone were trained in most folds.
    is_searched, is_repeated : bool
        True if each training set chose its own depth, and if each row was tested several times.
    place : str, default=""
        Prefix of the network's parameters in a search.
    is_frozen : bool, default=False
        True if the network gives features to another model, and nothing of it can be trained.
    """
    if verdict == HELPS:
        was = "layer" if is_frozen else "freeze depth"
        grid = f"'{place}layer': ['penultimate'," if is_frozen else f"'{place}freeze_depth': [1.0,"
        deeper = f"let a search choose it: GridSearchCV(estimator, {{{grid} 0.75, 0.5]}})"
        return ["Keep transfer." if is_searched else f"Keep transfer. This was one {was}; {deeper}."]
    if verdict == HURTS:
        return _against_harm([r for r in records if r["verdict"] == HURTS], trains_stages, is_frozen)
    if verdict == SAME:
        cheapest = min((r for r in records if r["verdict"] == SAME), key=lambda r: r["fit_seconds"])
        seconds = f"{cheapest['fit_seconds']:.3g} s"
        return [f"Drop transfer for {cheapest['name']!r} ({seconds} of fitting), or try another backbone."]
    return _against_doubt([r for r in records if r["verdict"] == UNKNOWN], rope, is_repeated)


def _against_harm(ahead: Sequence[Mapping[str, Any]], trains_stages: bool, is_frozen: bool) -> list[str]:
    if is_frozen:
        said = ["Read an earlier stage (layer=0.5), or give the model fewer features (PCA) or a stronger penalty."]
    elif trains_stages:
        said = ["Fine-tune less: a higher freeze_depth, a lower learning_rate, fewer max_epochs."]
    else:
        earlier = "PretrainedFeatureExtractor(layer=0.5)"
        said = [f"Let later stages adapt (a lower freeze_depth), or read an earlier one: {earlier}."]
    said.append("Try a backbone whose pretraining is closer to your samples: list_backbones().")
    best = max(ahead, key=lambda record: record["score"])
    return [*said, f"If neither helps, drop transfer: {best['name']!r} does better."]


def _against_doubt(undecided: Sequence[Mapping[str, Any]], rope: float, is_repeated: bool) -> list[str]:
    said = []
    near = [record for record in undecided if record["n_needed"] is None]
    if near:
        names = ", ".join(repr(record["name"]) for record in near)
        said.append(f"The difference from {names} lies so near the margin that labels will not settle it: set rope=.")
    counted = [record for record in undecided if record["n_needed"] is not None]
    none = [record["name"] for record in counted if abs(record["difference"]) <= rope]
    if none:
        names = ", ".join(map(repr, none))
        said.append(f"So far there is no difference from {names} that counts; more labels could only confirm it.")
    needed = [record["n_needed"] for record in counted if record["name"] not in none]
    if needed:
        said.append(f"About {max(needed):,} labels would be needed, if the differences are what they seem.")
    few = [r for r in undecided if r["n_better"] is not None and r["n_better"] + r["n_worse"] < LEAST_DISCORDANT]
    if few:
        said.append(
            f"From {', '.join(repr(r['name']) for r in few)} it differs in fewer than {LEAST_DISCORDANT} rows: no test "
            "could tell."
        )
    if undecided[0]["n_better"] is None and not is_repeated:
        said.append("Repeated folds sharpen this test: cv=RepeatedKFold(n_repeats=10), or its stratified kind.")
    return said


def _names(records: Sequence[Mapping[str, Any]], verdict: str) -> str:
    *names, last = (repr(record["name"]) for record in records if record["verdict"] == verdict)
    return f"{', '.join(names)} and {last}" if names else last


def warnings_of(histories: Sequence[History], chance_loss: float) -> list[str]:
    """Warnings about signs that most folds' histories share.

    Three signs: the loss on held-out samples rises again by a tenth; the training labels are known by heart in the
    first half of the epochs; the training loss ends above its beginning.

    Parameters
    ----------
    histories : sequence of mapping
        ``history_`` of each fold's network.
    chance_loss : float
        The loss of guessing by the classes' shares alone.

    Examples
    --------
    >>> known_early = {"loss": [0.3, 0.01, 0.004, 0.002, 0.001, 0.001]}
    >>> warnings_of([known_early], chance_loss=0.69)  # doctest: +ELLIPSIS
    ['Too much fine-tuning: in 1 of 1 folds the training labels were known by heart after epoch 2 of 6...']
    """
    signs: list[tuple[Callable[[History, float], int | None], str]] = [
        (
            _overfits_after,
            "Overfitting: in {folds} folds the held-out loss was least after epoch {epoch} of {n} and rose by more "
            "than a tenth from there. Set max_epochs={epoch}, or freeze more.",
        ),
        (
            _known_by_heart_after,
            "Too much fine-tuning: in {folds} folds the training labels were known by heart after epoch {epoch} of "
            "{n}. Train for fewer epochs, or freeze more.",
        ),
        (
            _rises_until,
            "The training loss ended above its beginning in {folds} folds, after {epoch} of {n} epochs. Lower "
            "learning_rate.",
        ),
    ]
    return [said for sign, words in signs if (said := _told(histories, chance_loss, sign, words))]


def _told(histories: Sequence[History], chance_loss: float, sign: Callable, words: str) -> str:
    trained = [history for history in histories if len(history.get("loss", ())) >= FEWEST_EPOCHS]
    found = [(epoch, len(h["loss"])) for h in trained if (epoch := sign(h, chance_loss)) is not None]
    if 2 * len(found) <= len(histories):
        return ""
    epoch, n = (int(np.median(column)) for column in zip(*found, strict=True))
    return words.format(folds=f"{len(found)} of {len(histories)}", epoch=epoch, n=n)


def _overfits_after(history: History, chance_loss: float) -> int | None:
    held_out = history.get("validation_loss", ())
    if len(held_out) < FEWEST_EPOCHS or held_out[-1] <= RISE * min(held_out):
        return None
    return int(np.argmin(held_out)) + 1


def _known_by_heart_after(history: History, chance_loss: float) -> int | None:
    known = np.flatnonzero(np.asarray(history["loss"]) < BY_HEART * chance_loss)
    return int(known[0]) + 1 if len(known) and known[0] < len(history["loss"]) / 2 else None


def _rises_until(history: History, chance_loss: float) -> int | None:
    return len(history["loss"]) if history["loss"][-1] > RISE * history["loss"][0] else None
