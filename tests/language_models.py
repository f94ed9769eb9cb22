"""Tiny causal language models of transformers with random weights, saved to folders with a tokenizer of letters."""

import functools
import pathlib
import tempfile

LETTERS = "?;0123456789+-*=() abcdefghijklmnopqrstuvwxyz"
SIZES = {"vocab_size": 48, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": None}
SMALL = {
    **SIZES,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
GROUPED = {**SMALL, "num_key_value_heads": 2, "tie_word_embeddings": False}
CONFIGURATIONS = {
    "gpt2": lambda t, **how: t.GPT2Config(
        **{**SIZES, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64} | how
    ),
    "llama": lambda t, **how: t.LlamaConfig(**GROUPED | how),
    "llama-tied": lambda t, **how: t.LlamaConfig(**GROUPED | {"tie_word_embeddings": True} | how),
    "mistral": lambda t, **how: t.MistralConfig(**GROUPED | {"sliding_window": None} | how),
    "qwen2": lambda t, **how: t.Qwen2Config(**GROUPED | {"tie_word_embeddings": True} | how),
    "qwen3": lambda t, **how: t.Qwen3Config(**GROUPED | {"head_dim": 8} | how),
    "opt": lambda t, **how: t.OPTConfig(**{**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32} | how),
    "gpt-neox": lambda t, **how: t.GPTNeoXConfig(**SMALL | how),
    "gemma": lambda t, **how: t.GemmaConfig(**GROUPED | {"head_dim": 8, "tie_word_embeddings": True} | how),
    "gemma2": lambda t, **how: t.Gemma2Config(**GROUPED | {"head_dim": 8, "tie_word_embeddings": True} | how),
    "phi": lambda t, **how: t.PhiConfig(**SMALL | how),
    "gptj": lambda t, **how: t.GPTJConfig(
        **{**SIZES, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "rotary_dim": 4} | how
    ),
    "starcoder2": lambda t, **how: t.Starcoder2Config(**GROUPED | {"tie_word_embeddings": True} | how),
}
DROPPING = {  # all parts that drop values in training
    "gpt2": {"resid_pdrop": 0.2, "embd_pdrop": 0.2, "attn_pdrop": 0.2},
    "llama": {"attention_dropout": 0.2},
    "llama-tied": {"attention_dropout": 0.2},
    "opt": {"dropout": 0.2, "attention_dropout": 0.2},
}


def save_letters(folder, *, begins=False, ends=True) -> None:
    """A tokenizer whose tokens are letters, ``;`` ends a text; with ``begins``, ``(`` begins any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(LETTERS)}, unk_token="?"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    if begins:
        backend.post_processor = processors.TemplateProcessing(
            single="( $A", special_tokens=[("(", LETTERS.index("("))]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="?", eos_token=";" if ends else None, bos_token="(" if begins else None
    ).save_pretrained(folder)


def save_language_model(folder, kind="gpt2", *, begins=False, seed=0, scale=None, **sizes) -> str:
    """Save a model and its tokenizer; its name as a backbone. ``scale`` multiplies all matrices, for sharper scores."""
    import torch
    import transformers

    from skltransfer.backbones import seeded

    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    config = CONFIGURATIONS[kind](transformers, **sizes)
    with seeded(seed):
        model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for one in model.parameters() if scale else ():
            if one.ndim > 1:
                one.mul_(scale)
    model.save_pretrained(folder)
    save_letters(folder, begins=begins)
    return f"hf:{folder}"


@functools.cache
def shared_language_model() -> str:
    """One for all tests of this process that want any; its folder goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="language_model")
    _folders.append(folder)
    return save_language_model(folder.name)


_folders: list[tempfile.TemporaryDirectory] = []
