"""Settings of ``generate`` that checkpoints bring: what changes the scores of tokens stays, all else is reset."""

import json
import pathlib
import warnings

import language_models
import pytest
import transformers
import writers

from skltransfer import FineTunedLanguageModel, FineTunedTextToText
from skltransfer.backbones._generation_options import make_reproducible

X, Y = ["1+1=", "2+1=", "1+3=", "2+3="], ["2", "3", "4", "5"]
RESET = {
    "do_sample": True,
    "min_p": 0.1,
    "penalty_alpha": 0.6,
    "top_k": 4,
    "num_beams": 4,
    "num_beam_groups": 2,
    "diversity_penalty": 0.5,
    "num_return_sequences": 3,
    "return_dict_in_generate": True,
    "output_scores": True,
    "prompt_lookup_num_tokens": 3,
    "stop_strings": ["a"],
    "max_time": 1e-9,
    "max_length": 20,
    "force_words_ids": [[3]],
    "guidance_scale": 2.0,
    "token_healing": True,
    "cache_implementation": "static",
}
KEPT = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "suppress_tokens": [5], "eos_token_id": 1}


def test_only_what_changes_scores_stays():
    config = transformers.GenerationConfig(**RESET, **KEPT, lang_to_id={"<|en|>": 7})
    make_reproducible(config)
    usual = transformers.GenerationConfig()
    assert {name: getattr(config, name) for name in KEPT} == KEPT
    assert {name: getattr(config, name) for name in RESET} == {name: getattr(usual, name, None) for name in RESET} | {
        "max_length": None
    }
    assert config.lang_to_id == {"<|en|>": 7}


def predictions(kind, folder, settings):
    if kind is FineTunedTextToText:
        name = writers.save_writer(folder, "t5")
    else:
        name = language_models.save_language_model(folder, "gpt2", scale=3.0)
    file = pathlib.Path(name.removeprefix("hf:")) / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(name, max_epochs=1, max_new_tokens=6, random_state=0).fit(X, Y).predict(X).tolist()


@pytest.mark.parametrize("kind", [FineTunedLanguageModel, FineTunedTextToText])
def test_a_checkpoints_settings_do_not_change_the_search(kind, tmp_path):
    pytest.importorskip("peft")
    folders = [tmp_path / name for name in ("usual", "changed")]
    assert predictions(kind, folders[0], {}) == predictions(kind, folders[1], RESET)
