"""Can questions about generated texts be answered, on names that were not seen: at which depth, and with which loss?

    python tests/benchmarks/quality_question_answering.py results.json [n_train] [draws]

Synthetic: three sentences of templates about three persons ("Anna was born in Lima in 1970."), and a question: who,
where or when. A sixth of the questions ask about a person of whom the text says nothing. Persons and places of the
test texts do not occur in the training texts. The network is real: all-MiniLM-L6-v2 (``bundled:minilm``), which was
trained to embed sentences, not to answer questions. ``GridSearchCV`` compares depths by the F1 score of two folds,
with activations remembered, and chooses; the test texts are scored once. *Random weights* is the same network without
pretraining, at the chosen depth; *first name* answers with the first word of the text. Numbers are about templates, and
say nothing about real questions. Results are kept in the file as they come. A draw takes about eight minutes on one
core.
"""

import json
import pathlib
import sys
import time

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skltransfer import (
    ActivationStore,
    FineTunedQuestionAnswerer,
    answer_exact_match_score,
    answer_f1_score,
)

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


def compared(n_train: int, seed: int) -> dict[str, list[float]]:
    """F1 score and exact match of each model on new names, and seconds of the search."""
    X, y = questions(KNOWN, n_train, seed)
    X_test, y_test = questions(NEW, N_TEST, seed + 100)
    store, started = ActivationStore(), time.perf_counter()
    search = GridSearchCV(model(store), {"freeze_depth": DEPTHS}, cv=2, error_score="raise").fit(X, y)
    seconds, misses = time.perf_counter() - started, store.info()["misses"]
    found = {"search": [seconds, float(misses), float(len({*map(tuple, X)})), search.best_params_["freeze_depth"]]}
    models = {f"freeze_depth={depth}": model(store, freeze_depth=depth) for depth in DEPTHS}
    models["random weights"] = clone(search.best_estimator_).set_params(weights="random:0")
    answers = {name: one.fit(X, y).predict(X_test) for name, one in models.items()}
    answers["first name"] = [context.split()[0] for _, context in X_test]
    for name, given in answers.items():
        found[name] = [answer_f1_score(y_test, given), answer_exact_match_score(y_test, given)]
    return found


def main(path: str, n_train: str = "300", draws: str = "1") -> None:
    kept = pathlib.Path(path)
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for seed in range(int(draws)):
        key = f"{n_train} | {seed}"
        if key not in results:
            results[key] = compared(int(n_train), seed)
            kept.write_text(json.dumps(results, indent=1))
    runs = [results[f"{n_train} | {seed}"] for seed in range(int(draws))]
    print(f"synthetic, {n_train} training questions, {N_TEST} test questions, {draws} draw(s)\n")
    print("| model | F1 | exact match |\n|---|---|---|")
    for name in [name for name in runs[0] if name != "search"]:
        scores = np.array([run[name] for run in runs])
        (f1, exact), (spread, of_exact) = scores.mean(0), scores.std(0)
        print(f"| {name} | {f1:.3f} ± {spread:.3f} | {exact:.3f} ± {of_exact:.3f} |")
    for seconds, misses, n_distinct, depth in [run["search"] for run in runs]:
        print(f"search: {seconds:.0f} s, {misses:.0f} frozen passes for {n_distinct:.0f} distinct pairs, best {depth}")


if __name__ == "__main__":
    main(*sys.argv[1:])
