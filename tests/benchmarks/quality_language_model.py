"""A tiny GPT-2 learns to write calls of a small interface from commands in words; then calls of another interface.

    python tests/benchmarks/quality_language_model.py results.json

*From scratch*: a GPT-2 of four layers and 64 dimensions, with random weights, is trained on commands such as "move the
red box three left" and the call that each means, ``red_box.move(-3,0)``; 1,000 to fit and 400 others to test. *Exact*
is the share of test prompts whose call is written letter by letter. *Unigram* gives each token its frequency in the
training continuations. *Another interface*: the network that was saved is fine-tuned on 40 of the same commands with
other calls, ``move(red_box,-3,0)``, with adapters and a search over freeze_depth, and compared on 400 others with
itself before, and with a network from scratch. Three seeds. All figures are a toy's. About five minutes of one core.
"""

import collections
import itertools
import json
import pathlib
import sys
import tempfile
import time
import warnings

import numpy as np
from sklearn.model_selection import GridSearchCV

from skltransfer import ActivationStore, FineTunedLanguageModel

COLORS = ["red", "blue", "green", "black", "white"]
THINGS = ["box", "ball", "cone", "lamp", "door"]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DIRECTIONS = {"left": "-{},0", "right": "{},0", "up": "0,{}", "down": "0,-{}"}
WORDS = r" ?[a-z]+|[0-9]|[^a-z0-9]"
N_FIT, N_TEST, N_FEW, SEEDS = 1000, 400, 40, 3
DEPTHS = [1.0, 0.8, 0.6, 0.4, 0.2]


def commands(*, others: bool) -> list[tuple[str, str]]:
    """All commands in words, each with its call; of the other interface, if asked for."""
    found = []
    for color, thing in itertools.product(COLORS, THINGS):
        said, name = f"{color} {thing}", f"{color}_{thing}"
        calls = {f"paint the {said} {new}": ("paint", f'"{new}"') for new in COLORS}
        for n, number in enumerate(NUMBERS, 1):
            moves = {f"move the {said} {number} {way}": ("move", by.format(n)) for way, by in DIRECTIONS.items()}
            calls |= moves | {f"turn the {said} by {number}": ("turn", str(n))}
            calls |= {f"copy the {said} {number} times": ("copy", str(n))}
        for words, (verb, by) in calls.items():
            found.append((f"{words}: ", f"{verb}({name},{by})" if others else f"{name}.{verb}({by})"))
    return found


def parts(others: bool, n: int, seed: int) -> tuple[list, list, list, list]:
    """Prompts and calls to fit, and others to test."""
    rows = commands(others=others)
    order = np.random.default_rng(seed).permutation(len(rows))[: n + N_TEST]
    X, y = zip(*(rows[i] for i in order), strict=True)
    return list(X[:n]), list(y[:n]), list(X[n:]), list(y[n:])


def save_empty_network(folder: str) -> None:
    """A configuration, and a tokenizer of words that knows all commands and calls; no weights."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, PreTrainedTokenizerFast

    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    texts = [text for others in (False, True) for pair in commands(others=others) for text in pair]
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["[unk]", "[end]", *words])}, "[unk]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[unk]", eos_token="[end]").save_pretrained(folder)
    sizes = {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 48, "vocab_size": len(words) + 2}
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    GPT2Config(**sizes, **drops, bos_token_id=1, eos_token_id=1).save_pretrained(folder)


def new(folder: str, **parameters) -> FineTunedLanguageModel:
    defaults = {"dtype": "float32", "runtime": "eager", "max_new_tokens": 24, "batch_size": 32}
    return FineTunedLanguageModel(f"hf:{folder}", **defaults | parameters)


def from_scratch(folder: str, seed: int, **parameters) -> FineTunedLanguageModel:
    how = {"freeze_depth": 0.0, "adapter": None, "learning_rate": 3e-3, "max_epochs": 40, "random_state": seed}
    return new(folder, weights=f"random:{seed}", **how | parameters)


def exact(model: FineTunedLanguageModel, X: list, y: list) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of calls that have no end yet
        return float(np.mean(model.predict(X) == np.array(y, dtype=object)))


def unigram_perplexity(folder: str, y: list, y_test: list) -> float:
    """Of the tokens of continuations, their ends included, each at its frequency in the training part, plus one."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [[*tokenizer(text)["input_ids"], 1] for text in y]
    counts = collections.Counter(itertools.chain(*ids))
    total = sum(counts.values()) + len(tokenizer)
    tests = list(itertools.chain(*([*tokenizer(text)["input_ids"], 1] for text in y_test)))
    return float(np.exp(-np.mean([np.log((counts[one] + 1) / total) for one in tests])))


def save_whole(model: FineTunedLanguageModel, folder: str) -> None:
    """The library's own model with the trained weights, and its tokenizer: what from_pretrained reads."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    source = model.backbone.removeprefix("hf:")
    whole = GPT2LMHeadModel(GPT2Config.from_pretrained(source))
    state = {k.removeprefix("suffix."): torch.tensor(v) for k, v in model._network_.changed.items()}
    whole.transformer.load_state_dict(state, strict=False)
    whole.tie_weights()
    whole.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def learned_from_scratch(empty: str, saved: str, seed: int) -> dict:
    X, y, X_test, y_test = parts(False, N_FIT, seed)
    start = time.perf_counter()
    model = from_scratch(empty, seed).fit(X, y)
    seconds = time.perf_counter() - start
    save_whole(model, saved)
    untrained = from_scratch(empty, seed, learning_rate=1e-12, max_epochs=1).fit(X[:32], y[:32])
    return {
        "exact": exact(model, X_test, y_test),
        "perplexity": model.perplexity(X_test, y_test),
        "perplexity, unigram": unigram_perplexity(empty, y, y_test),
        "perplexity, untrained": untrained.perplexity(X_test, y_test),
        "seconds": seconds,
    }


def learned_other_calls(empty: str, saved: str, seed: int) -> dict:
    X, y, X_test, y_test = parts(True, N_FEW, seed)
    store = ActivationStore()
    tuned = new(saved, cache=store, learning_rate=1e-2, max_epochs=40, batch_size=8, random_state=seed)
    start = time.perf_counter()
    search = GridSearchCV(tuned, {"freeze_depth": DEPTHS}, cv=3, error_score="raise").fit(X, y)
    seconds = time.perf_counter() - start
    passes = store.info()["misses"]
    before = new(saved, freeze_depth=1.0, learning_rate=1e-12, max_epochs=1, random_state=seed).fit(X, y)
    scratch = from_scratch(empty, seed, max_epochs=100, batch_size=8).fit(X, y)
    found = {
        "chosen freeze_depth": search.best_params_["freeze_depth"],
        "texts that passed the frozen stages": passes,
        "fits of the search": 3 * len(DEPTHS) + 1,
        "seconds of the search": seconds,
        "trained weights": search.best_estimator_.n_trainable_params_,
    }
    for name, model in (("searched", search.best_estimator_), ("before", before), ("scratch", scratch)):
        found |= {f"exact, {name}": exact(model, X_test, y_test)}
        found |= {f"perplexity, {name}": model.perplexity(X_test, y_test)}
    for depth, score in zip(DEPTHS, search.cv_results_["mean_test_score"], strict=True):
        found[f"perplexity in the search, freeze_depth={depth}"] = -float(score)
    return found


def main(path: str) -> None:
    kept = pathlib.Path(path)
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for seed in range(SEEDS):
        if f"seed {seed}" in results:
            continue
        with tempfile.TemporaryDirectory() as folder:
            empty, saved = f"{folder}/empty", f"{folder}/saved"
            save_empty_network(empty)
            results[f"seed {seed}"] = [
                learned_from_scratch(empty, saved, seed),
                learned_other_calls(empty, saved, seed),
            ]
        kept.write_text(json.dumps(results, indent=1))
    for number, title in enumerate(("From scratch", "Another interface")):
        rows = [one[number] for one in results.values()]
        print(f"\n{title}, {len(rows)} seeds\n\n| | mean | each |\n|---|---|---|")
        for name in rows[0]:
            values = [row[name] for row in rows]
            print(f"| {name} | {np.mean(values):.3f} | {', '.join(f'{value:.3f}' for value in values)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
