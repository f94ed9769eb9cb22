"""Can questions about generated texts be answered, on names that were not seen, and at which depth?

    python tests/benchmarks/quality_question_answering.py results.json [n_train] [draws]

Synthetic: three sentences of templates about three persons ("Anna was born in Lima in 1970."), and a question: who,
where or when. A sixth of the questions ask about a person of whom the text says nothing. Persons and places of the
test texts do not occur in the training texts. The network is real: all-MiniLM-L6-v2 (``bundled:minilm``), which was
trained to embed sentences, not to answer questions. Each depth is scored on the test texts once, and ``GridSearchCV``
compares them by the F1 score of two folds of the training texts, with activations remembered: a pair is missed in the
cache once for the frozen stages, and once for its token ids, which ``freeze_depth=0.0`` reads. *Random weights* is
the same network without pretraining; *first word* answers with the first word of the text. Numbers are about
templates, and say nothing about real questions. Results are kept in the file as they come. A draw of 300 questions
takes about ten minutes on one core.
"""

import functools
import itertools
import json
import pathlib
import sys
import time

import numpy as np
from sklearn.model_selection import GridSearchCV

from skltransfer import (
    ActivationStore,
    FineTunedQuestionAnswerer,
    answer_exact_match_score,
    answer_f1_score,
)

Data = tuple[np.ndarray, np.ndarray]
DEPTHS, N_TEST = [1.0, 0.5, 0.0], 240
KNOWN = {
    "person": [
        "Anna",
        "Boris",
        "Clara",
        "David",
        "Elena",
        "Felix",
        "Greta",
        "Hugo",
        "Irene",
        "Jonas",
        "Karin",
        "Leon",
        "Maria",
        "Nils",
        "Olga",
        "Paul",
    ],
    "place": [
        "Lima",
        "Oslo",
        "Rome",
        "Paris",
        "Cairo",
        "Delhi",
        "Quito",
        "Dublin",
        "Athens",
        "Prague",
        "Madrid",
        "Vienna",
        "Boston",
        "Tokyo",
    ],
}
NEW = {
    "person": [
        "Sarah",
        "Carlos",
        "Nina",
        "Victor",
        "Wanda",
        "Peter",
        "Julia",
        "Simon",
        "Tanja",
        "Ulrich",
        "Zoe",
        "Oscar",
    ],
    "place": ["Lisbon", "Berlin", "Geneva", "Havana", "Seoul", "Nairobi", "Warsaw", "Chicago", "Sydney", "Zurich"],
}
FACTS = {
    "{person} was born in {place} in {year}.": {
        "person": "Who was born in {place}?",
        "place": "Where was {person} born?",
        "year": "When was {person} born?",
    },
    "In {year}, {person} moved to {place}.": {
        "person": "Who moved to {place}?",
        "place": "Where did {person} move?",
        "year": "When did {person} move?",
    },
    "{person} has worked in {place} since {year}.": {
        "person": "Who works in {place}?",
        "place": "Where does {person} work?",
        "year": "Since when has {person} worked there?",
    },
}


def questions(names: dict[str, list[str]], n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (n, 2) of a question and a context, and the answers."""
    draw = np.random.default_rng(seed)
    X, y = np.empty((n, 2), dtype=object), np.empty(n, dtype=object)
    for row in range(n):
        persons, places = (draw.choice(names[kind], 4, replace=False) for kind in ("person", "place"))
        years = draw.choice(np.arange(1950, 2020), 4, replace=False)
        facts = [
            {"template": template, "person": str(person), "place": str(place), "year": str(year)}
            for template, person, place, year in zip(draw.permutation([*FACTS]), persons, places, years, strict=False)
        ]
        context = " ".join(fact["template"].format(**fact) for fact in facts)
        asked = facts[draw.integers(3)]
        kind = str(draw.choice(["person", "place", "year"]))
        answer = asked[kind]
        if draw.random() < 1 / 6:
            asked, answer = {**asked, "person": persons[3], "place": places[3]}, ""
        X[row] = FACTS[asked["template"]][kind].format(**asked), context
        y[row] = answer
    return X, y


def model(store: ActivationStore, **how) -> FineTunedQuestionAnswerer:
    return FineTunedQuestionAnswerer(cache=store, backbone_lr_factor=0.3, random_state=0, dtype="float32", **how)


def scored(model: FineTunedQuestionAnswerer, train: Data, test: Data) -> list[float]:
    """F1 score and exact match on the test texts."""
    given = model.fit(*train).predict(test[0])
    return [answer_f1_score(test[1], given), answer_exact_match_score(test[1], given)]


def searched(train: Data) -> list[float]:
    """Seconds of a search, misses of its cache, distinct pairs, and the best depth."""
    store, started = ActivationStore(), time.perf_counter()
    search = GridSearchCV(model(store), {"freeze_depth": DEPTHS}, cv=2, refit=False, error_score="raise").fit(*train)
    seconds, distinct = time.perf_counter() - started, set(map(tuple, train[0]))
    return [seconds, store.info()["misses"], len(distinct), search.best_params_["freeze_depth"]]


def first_word(train: Data, test: Data) -> list[float]:
    given = [context.split()[0] for _, context in test[0]]
    return [answer_f1_score(test[1], given), answer_exact_match_score(test[1], given)]


def main(path: str, n_train: str = "300", draws: str = "1") -> None:
    kept, store = pathlib.Path(path), ActivationStore()
    results = json.loads(kept.read_text()) if kept.exists() else {}
    models = {f"freeze_depth={depth}": model(store, freeze_depth=depth) for depth in DEPTHS}
    models["random weights, freeze_depth=0.0"] = model(store, freeze_depth=0.0, weights="random:0")
    runs = {"first word": first_word, **{name: functools.partial(scored, one) for name, one in models.items()}}
    runs["search"] = lambda train, test: searched(train)
    for seed, (name, run) in itertools.product(range(int(draws)), runs.items()):
        key = f"{n_train} | {seed} | {name}"
        if key not in results:
            results[key] = run(questions(KNOWN, int(n_train), seed), questions(NEW, N_TEST, seed + 100))
            kept.write_text(json.dumps(results, indent=1))
    print(f"synthetic, {n_train} training questions, {N_TEST} test questions, {draws} draw(s)\n")
    print("| model | F1 | exact match |\n|---|---|---|")
    for name in [name for name in runs if name != "search"]:
        scores = np.array([results[f"{n_train} | {seed} | {name}"] for seed in range(int(draws))])
        (f1, exact), (spread, of_exact) = scores.mean(0), scores.std(0)
        print(f"| {name} | {f1:.3f} ± {spread:.3f} | {exact:.3f} ± {of_exact:.3f} |")
    for seed in range(int(draws)):
        seconds, misses, distinct, depth = results[f"{n_train} | {seed} | search"]
        print(f"search: {seconds:.0f} s, {misses:.0f} misses for {distinct:.0f} distinct pairs, best {depth}")


if __name__ == "__main__":
    main(*sys.argv[1:])
