"""Dates as people write them -> ISO dates, by a tiny T5 that is trained from scratch; then the same network, pretrained
on these, learns other ways to write a date from few examples.

    OMP_NUM_THREADS=1 python tests/benchmarks/quality_text_to_text.py results.json

*From scratch*: 6,000 dates of 100 years, each written in one of six ways, two of them in words; 1,000 other dates to
test. The share of dates that are right to the letter, and chrF. *Pretrained*: the folder with that network; 200 dates
in three ways that it has not seen, ``GridSearchCV`` over the depth with activations remembered, 1,000 dates to test.
*Random*: the same with random weights, all trained. Results are kept in the file as they come.
"""

import datetime
import json
import pathlib
import sys
import tempfile
import time

import numpy as np
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV

from skltransfer import ActivationStore, FineTunedTextToText, chrf_score

FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
ONES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
ONES = ["", *f"{ONES} eighteen nineteen".split()]
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
FIRSTS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth"
FIRSTS = ["", *f"{FIRSTS} fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split()]
ROMAN = ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii"]
GERMAN = [
    "Januar",
    "Februar",
    "Maerz",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .,-/'"
DEPTHS = [1.0, 0.67, 0.33]
HOW = {"dtype": "float32", "runtime": "eager", "random_state": 0, "weight_decay": 0.0}


def in_words(n: int) -> str:
    """A number below 100."""
    return ONES[n] if n < 20 else f"{TENS[n // 10]}-{ONES[n % 10]}".rstrip("-")


def ordinal(n: int) -> str:
    """A day of a month."""
    if n <= 20:
        return FIRSTS[n]
    return "thirtieth" if n == 30 else f"{TENS[n // 10]}-{FIRSTS[n % 10]}"


def year_in_words(year: int) -> str:
    century, rest = divmod(year, 100)
    if 2000 <= year < 2010:
        return "two thousand" + (f" and {in_words(rest)}" if rest else "")
    return f"{in_words(century)} {in_words(rest)}" if rest else f"{in_words(century)} hundred"


USUAL = (
    lambda d: f"{d:%B} {d.day}, {d.year}",
    lambda d: f"{d.day} {d:%b} {d.year}",
    lambda d: f"{d.day}.{d.month}.{d.year}",
    lambda d: f"{d:%m/%d/%Y}",
    lambda d: f"the {ordinal(d.day)} of {d:%B}, {year_in_words(d.year)}",
    lambda d: f"{d:%B} the {ordinal(d.day)} {year_in_words(d.year)}",
)
OTHERS = (
    lambda d: f"{d.day}. {GERMAN[d.month - 1]} {d.year}",
    lambda d: f"{d.day} {ROMAN[d.month - 1]} {d.year}",
    lambda d: f"{year_in_words(d.year)}, {d:%b} {d.day}",
)


def dates(n: int, ways: tuple, seed: int) -> tuple[list[str], list[str]]:
    """Different dates, each written in one of some ways, and their ISO forms."""
    draw = np.random.default_rng(seed)
    days = draw.permutation((LAST - FIRST).days + 1)[:n]
    found = [FIRST + datetime.timedelta(int(day)) for day in days]
    return [ways[draw.integers(len(ways))](d) for d in found], [d.isoformat() for d in found]


def save_random_t5(folder: str, d_model: int = 64) -> None:
    """A T5 of two and two layers with random weights, and a tokenizer of letters."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=d_model,
        d_kv=d_model // 4,
        d_ff=2 * d_model,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)


def save_trained(model: FineTunedTextToText, source: str, folder: str) -> None:
    """The whole network of a fit at ``freeze_depth=0.0``, as a folder of transformers."""
    import torch
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    network, parts = T5ForConditionalGeneration.from_pretrained(source), ("suffix.", "readout.decoder.model.")
    state = {key.removeprefix(parts[0]).removeprefix(parts[1]): a for key, a in model._network_.changed.items()}
    found = network.load_state_dict({key: torch.tensor(a) for key, a in state.items()}, strict=False)
    assert not found.unexpected_keys
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def exact(y_true: list[str], y_pred: list[str]) -> float:
    """Share of texts that are right to the letter."""
    return float(np.mean([a == b for a, b in zip(y_true, y_pred, strict=True)]))


def from_scratch(folder: str, trained: str, n: int = 6000, epochs: int = 20, n_test: int = 1000) -> dict[str, float]:
    """Train on dates in usual ways; the trained network is saved."""
    X, y = dates(n + n_test, USUAL, seed=0)
    start = time.perf_counter()
    model = FineTunedTextToText(
        f"hf:{folder}", freeze_depth=0.0, learning_rate=3e-3, max_epochs=epochs, batch_size=32, **HOW
    ).fit(X[:n], y[:n])
    seconds, found = time.perf_counter() - start, model.predict(X[n:])
    save_trained(model, folder, trained)
    return {"exact": exact(y[n:], found), "chrF": chrf_score(y[n:], found), "fit": seconds}


def searched(folder: str, weights: str, n: int = 200, epochs: int = 20, n_test: int = 1000) -> dict[str, float]:
    """Search the depth on few dates in other ways."""
    X, y = dates(n + n_test, OTHERS, seed=1)
    store, start = ActivationStore(), time.perf_counter()
    model = FineTunedTextToText(
        f"hf:{folder}", weights=weights, cache=store, learning_rate=2e-3, max_epochs=epochs, batch_size=16, **HOW
    )
    depths = DEPTHS if weights == "pretrained" else [0.0]
    search = GridSearchCV(model, {"freeze_depth": depths}, scoring=make_scorer(exact), cv=3, error_score="raise")
    search.fit(X[:n], y[:n])
    found = {f"depth {depth}": s for depth, s in zip(depths, search.cv_results_["mean_test_score"], strict=True)}
    found |= {"passed": store.info()["misses"], "texts": len(set(X[:n])), "search": time.perf_counter() - start}
    answers = search.predict(X[n:])
    return found | {
        "best depth": search.best_params_["freeze_depth"],
        "exact": exact(y[n:], answers),
        "chrF": chrf_score(y[n:], answers),
    }


def main(path: str) -> None:
    kept = pathlib.Path(path)
    results = json.loads(kept.read_text()) if kept.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        random, trained = f"{folder}/random", f"{folder}/trained"
        save_random_t5(random)
        runs = {
            "from scratch": lambda: from_scratch(random, trained),
            "pretrained": lambda: searched(trained, "pretrained"),
            "random": lambda: searched(trained, "random"),
        }
        for name, run in runs.items():
            if name not in results or not pathlib.Path(trained).exists():
                results[name] = run()
                kept.write_text(json.dumps(results, indent=1))
                print(name, {key: round(value, 3) for key, value in results[name].items()}, flush=True)
    print("\n| network | exact | chrF |\n|---|---|---|")
    for name, found in results.items():
        print(f"| {name} | {found['exact']:.3f} | {found['chrF']:.3f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
