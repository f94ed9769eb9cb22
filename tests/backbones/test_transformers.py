"""transformers' networks: tiny random configurations, saved to a folder and loaded through the real from_pretrained."""

import copy
import pickle

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from skltransfer import ActivationStore, AdaptedBackbone, FineTunedClassifier, PretrainedFeatureExtractor, load_backbone
from skltransfer.backbones import seeded, source_language_head
from skltransfer.exceptions import BackboneNotFoundError, UnsupportedBackboneError, WeightsError

WORDS = [
    "the",
    "a",
    "film",
    "is",
    "was",
    "good",
    "bad",
    "dull",
    "bright",
    "very",
    "not",
    "and",
    "story",
    "of",
    "people",
]
WORDS += ["who", "laugh", "cry", "often", "never"]
TEXTS = [
    "the film is good",
    "not a bad story",
    "very very very very very very very very very very very very very very very very very dull and bad film",
    "people laugh",
    "a",
    "who cry often and never laugh is not bright",
]
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
SHARED = {"vocab_size": 64, **SMALL, "max_position_embeddings": 66}
TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
CONFIGURATIONS = {
    "bert": lambda t: t.BertConfig(**SHARED),
    "deberta-v3": lambda t: t.DebertaV2Config(
        **SHARED, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, norm_rel_ebd="layer_norm"
    ),
    "distilbert": lambda t: t.DistilBertConfig(
        vocab_size=64, dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=66
    ),
    "electra": lambda t: t.ElectraConfig(**SHARED, embedding_size=16),
    "esm": lambda t: t.EsmConfig(
        **SHARED, position_embedding_type="rotary", pad_token_id=1, token_dropout=True, mask_token_id=4
    ),
    "gpt2": lambda t: t.GPT2Config(vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=66),
    "llama": lambda t: t.LlamaConfig(**SHARED, num_key_value_heads=2),
    "modernbert": lambda t: t.ModernBertConfig(**SHARED, local_attention=8, global_attn_every_n_layers=2, **TOKENS),
    "mpnet": lambda t: t.MPNetConfig(**SHARED),
    "roberta": lambda t: t.RobertaConfig(**SHARED),
    "t5": lambda t: t.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4),
}
OF_PICTURES = {
    "dinov2": lambda t: t.Dinov2Config(**SMALL, image_size=28, patch_size=14),
    "vit": lambda t: t.ViTConfig(**SMALL, image_size=32, patch_size=8),
    "siglip_vision": lambda t: t.SiglipVisionConfig(**SMALL, image_size=32, patch_size=8),
}
AUDIO = {**SMALL, "conv_dim": (16, 16), "conv_kernel": (10, 4), "conv_stride": (5, 4), "num_feat_extract_layers": 2}
AUDIO |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "layerdrop": 0.1}
OF_SOUNDS = {
    "hubert": lambda t: t.HubertConfig(**AUDIO),
    "wav2vec2": lambda t: t.Wav2Vec2Config(**AUDIO, feat_extract_norm="layer"),
    "wav2vec2-group-norm": lambda t: t.Wav2Vec2Config(**AUDIO),
    "whisper": lambda t: t.WhisperConfig(
        d_model=32,
        encoder_layers=3,
        encoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_layers=1,
        decoder_attention_heads=4,
        decoder_ffn_dim=48,
        vocab_size=64,
        max_source_positions=50,
        num_mel_bins=80,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        encoder_layerdrop=0.1,
    ),
}
TOWERS = ["clip:vision", "clip:text"]


def save_tokenizer(folder, special=("[PAD]", "[UNK]", "[CLS]", "[SEP]")):
    vocabulary = {word: i for i, word in enumerate((*special, *WORDS))}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=special[1]))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    cls, sep = special[2:4]
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{cls} $A {sep}", special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=special[1],
        cls_token=cls,
        sep_token=sep,
        mask_token=special[4] if len(special) > 4 else None,
        model_max_length=64,
    ).save_pretrained(folder)


def clip(t):
    text = {**SHARED, "vocab_size": 64, "eos_token_id": 3, "pad_token_id": 0}
    return t.CLIPConfig(text_config=text, vision_config={**SMALL, "image_size": 32, "patch_size": 8}, projection_dim=16)


@pytest.fixture(scope="module", params=[*CONFIGURATIONS, *OF_PICTURES, *TOWERS, *OF_SOUNDS])
def backbone(request, tmp_path_factory):
    """One per family, saved to a folder with weights that differ from those that a new model draws."""
    family, _, tower = request.param.partition(":")
    folder = tmp_path_factory.mktemp(family)
    configuration = {**CONFIGURATIONS, **OF_PICTURES, **OF_SOUNDS, "clip": clip}[family](transformers)
    with seeded(len(family)):
        transformers.AutoModel.from_config(configuration).save_pretrained(folder)
    if family in CONFIGURATIONS or tower == "text":
        save_tokenizer(folder)
    elif family == "whisper":
        transformers.WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)
    elif family in OF_SOUNDS:
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    else:
        side = {"height": 28, "width": 28} if family == "dinov2" else {"height": 32, "width": 32}
        transformers.ViTImageProcessor(size=side).save_pretrained(folder)
    return load_backbone(f"hf:{folder}{':' if tower else ''}{tower}")


def samples_of(backbone):
    if backbone.modality == "text":
        return TEXTS
    if backbone.modality == "audio":
        rng = np.random.default_rng(0)
        return [(rng.uniform(-0.5, 0.5, 800 + 300 * i).astype(np.float32), 16_000) for i in range(6)]
    return list(np.random.default_rng(0).integers(0, 256, (6, 40, 30, 3), dtype=np.uint8))


def batch_of(backbone):
    if backbone.modality != "text":
        return backbone.example(3)
    ids = [backbone.preprocessing(text) for text in TEXTS]
    batch = torch.full((len(ids), 32), -1)
    for row, value in zip(batch, ids, strict=True):
        row[: len(value)] = value
    return batch


def close(ours, theirs):
    assert torch.equal(torch.isnan(ours), torch.isnan(theirs))
    ours, theirs = ours.nan_to_num(), theirs.nan_to_num()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_prefix_then_suffix_is_the_librarys_forward_at_each_boundary(backbone):
    x = batch_of(backbone)
    with torch.inference_mode():
        theirs = backbone.library_activations(x)[-2]
        for boundary in range(backbone.n_stages):
            x = x if boundary == 0 else backbone.prefix(boundary - 1, boundary)(x)
            before = x.clone()
            close(backbone.suffix(boundary).eval()(x), theirs)
            assert torch.equal(x.nan_to_num(), before.nan_to_num())
        close(backbone.prefix(0, backbone.n_stages)(batch_of(backbone)), theirs)


def whole(network, x):
    """What the library's model says, padding as NaN."""
    if x.is_floating_point():
        mask = ~x.isnan()
        arguments = {network.main_input_name: x.nan_to_num()} | ({} if mask.all() else {"attention_mask": mask.long()})
        output = network(**arguments).last_hidden_state
        if mask.all():
            return output
        lengths = network._get_feat_extract_output_lengths(mask.sum(1))
        return output.masked_fill((torch.arange(output.shape[1]) >= lengths[:, None])[..., None], torch.nan)
    mask = (x >= 0).long()
    output = network(input_ids=x.clamp_min(0), attention_mask=mask).last_hidden_state
    return output.masked_fill(mask[..., None] == 0, torch.nan)


def test_the_library_itself_says_the_same(backbone):
    folder, _, tower = backbone.name.removeprefix("hf:").partition(":")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = model.encoder if model.config.model_type in ("t5", "whisper") else model
    model = getattr(model, f"{tower}_model") if tower else model
    x = batch_of(backbone)
    with torch.inference_mode():
        close(backbone.prefix(0, backbone.n_stages)(x), whole(model, x))


def test_the_suffix_in_train_mode_does_what_the_library_does(backbone):
    x = batch_of(backbone)
    network = copy.deepcopy(backbone.library_network).train()
    suffix = backbone.suffix(0).train()
    with torch.no_grad():
        with seeded(1):
            theirs = whole(network, x)
        with seeded(1):
            ours = suffix(x)
    close(ours, theirs)


def test_state_dict_names_stay_the_librarys_and_stages_share_them_out(backbone):
    theirs = backbone.library_network.state_dict()
    for boundary in range(backbone.n_stages):
        ours = backbone.suffix(boundary).state_dict()
        assert ours.keys() <= theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    named = [n for stage in range(backbone.n_stages) for n in backbone.stage_parameters(stage)]
    assert len(named) == len(set(named))
    assert set(named) == {n for n, _ in backbone.library_network.named_parameters()}


@pytest.mark.parametrize("boundary", [0, 1, 2, 3])
def test_a_step_moves_what_lies_after_the_boundary_and_nothing_else(backbone, boundary):
    before = {k: v.clone() for k, v in backbone.library_network.state_dict().items()}
    suffix = backbone.suffix(boundary).train()
    with torch.no_grad():
        x = backbone.prefix(0, boundary)(batch_of(backbone)) if boundary else batch_of(backbone)
    mine = {n for stage in range(boundary, backbone.n_stages) for n in backbone.stage_parameters(stage)}
    parameters = {n: p for n, p in suffix.named_parameters() if n in mine}
    output = suffix(x.clone()).nan_to_num()
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    torch.optim.SGD(parameters.values(), lr=1.0).step()
    moved = {n for n, p in suffix.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= mine
    for stage in range(boundary, backbone.n_stages):
        assert moved & set(backbone.stage_parameters(stage)), f"stage {stage} moves"
    assert all(torch.equal(v, before[k]) for k, v in backbone.library_network.state_dict().items())


def test_features_do_not_depend_on_neighbours_and_the_store_changes_nothing(backbone):
    extractor = PretrainedFeatureExtractor(backbone, dtype="float32", cache=None, layer=[0.5, "penultimate"])
    X = samples_of(backbone)
    together = extractor.transform(X)
    alone = np.vstack([extractor.transform([sample]) for sample in X])
    np.testing.assert_array_equal(alone, together)
    stored = extractor.set_params(cache=ActivationStore())
    np.testing.assert_array_equal(stored.transform(X), together)
    np.testing.assert_array_equal(stored.transform(X), together)


@pytest.mark.parametrize("freeze_depth", [1.0, 0.5, 0.0])
def test_it_is_fine_tuned_with_and_without_store(backbone, freeze_depth, tmp_path):
    X, y = samples_of(backbone), [0, 1, 0, 1, 0, 1]
    probabilities = []
    for cache in (None, "memory", tmp_path):
        model = FineTunedClassifier(
            backbone, freeze_depth=freeze_depth, max_epochs=2, dtype="float32", cache=cache, random_state=0
        ).fit(X, y)
        probabilities.append(model.predict_proba(X))
    np.testing.assert_allclose(probabilities[0], probabilities[1], atol=1e-6)
    np.testing.assert_allclose(probabilities[0], probabilities[2], atol=1e-6)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), probabilities[2])


def test_it_pickles_as_a_name_and_a_hash(backbone):
    dumped = pickle.dumps(backbone)
    assert len(dumped) < 1000
    assert pickle.loads(dumped).fingerprint == backbone.fingerprint


def test_pictures_are_prepared_as_the_stored_processor_does(tmp_path):
    with seeded(0):
        transformers.AutoModel.from_config(OF_PICTURES["vit"](transformers)).save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, resample=3, image_mean=[0.4] * 3)
    processor.save_pretrained(tmp_path)
    photo = np.random.default_rng(0).integers(0, 256, (90, 50, 3), dtype=np.uint8)
    ours = load_backbone(f"hf:{tmp_path}").preprocessing(photo)
    theirs = torch.tensor(np.asarray(processor(photo)["pixel_values"][0]))
    assert ours.shape == theirs.shape == (3, 32, 32)
    assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


def test_a_network_of_two_towers_asks_which(tmp_path):
    transformers.CLIPModel(clip(transformers)).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedBackboneError, match=r"name 'hf:.*:vision' or 'hf:.*:text'"):
        load_backbone(f"hf:{tmp_path}")


def test_a_tokenizer_that_knows_more_tokens_than_the_network_is_refused(tmp_path):
    transformers.BertModel(transformers.BertConfig(**SHARED | {"vocab_size": 20})).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(UnsupportedBackboneError, match="makes token ids up to 23, the network knows 20"):
        load_backbone(f"hf:{tmp_path}")


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(BackboneNotFoundError, match=f"The folder {str(tmp_path)!r} holds no model"):
        load_backbone(f"hf:{tmp_path}")


def test_without_network_the_error_names_the_model_the_folder_and_the_way_out():
    with pytest.raises(WeightsError, match=r"'hf:no-such/model' could not be loaded .*cache folder .*local folder"):
        load_backbone("hf:no-such/model", local_files_only=True)


MASKED = ["bert", "deberta-v3", "distilbert", "electra", "esm", "modernbert", "mpnet", "roberta"]


def masked_language_model(family, folder):
    """The library's own, saved, with a mask token that the tokenizer knows."""
    with seeded(len(family)):
        model = transformers.AutoModelForMaskedLM.from_config(CONFIGURATIONS[family](transformers)).eval()
        for parameter in model.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))  # no bias is zero, as after training
    model.save_pretrained(folder)
    save_tokenizer(folder, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    return model


@pytest.mark.parametrize("trains_tokens", [True, False])
@pytest.mark.parametrize("family", MASKED)
def test_a_checkpoints_own_head_scores_tokens_as_the_library_does(family, trains_tokens, tmp_path):
    model = masked_language_model(family, tmp_path)
    backbone = load_backbone(f"hf:{tmp_path}")
    suffix = backbone.suffix(0)
    encoder = backbone.text_model(suffix) if trains_tokens else backbone.text_model()
    head = source_language_head(backbone, encoder).eval()
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.inference_mode():
        ours = head(suffix(ids)[0])
        theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if trains_tokens and model.get_output_embeddings().weight is model.get_input_embeddings().weight:
        assert head.model.get_output_embeddings().weight is suffix.model.get_input_embeddings().weight


def test_a_checkpoint_without_such_a_head_brings_none(tmp_path):
    transformers.AutoModel.from_config(CONFIGURATIONS["bert"](transformers)).save_pretrained(tmp_path / "encoder")
    other = transformers.ElectraForPreTraining(CONFIGURATIONS["electra"](transformers))
    other.save_pretrained(tmp_path / "discriminator")
    for name in ("encoder", "discriminator"):
        save_tokenizer(tmp_path / name)
        backbone = load_backbone(f"hf:{tmp_path / name}")
        assert source_language_head(backbone, backbone.text_model()) is None
    whole = masked_language_model("bert", tmp_path / "whole")
    assert whole.get_output_embeddings() is not None
    backbone = load_backbone(f"hf:{tmp_path / 'whole'}", weights="random")
    assert source_language_head(backbone, backbone.text_model()) is None


@pytest.mark.parametrize("freeze_depth", [0.0, 0.5])
@pytest.mark.parametrize("family", ["bert", "deberta-v3", "electra without a head", "modernbert"])
def test_a_network_learns_to_guess_hidden_words(family, freeze_depth, tmp_path):
    model = masked_language_model(family.split()[0], tmp_path)
    if family.endswith("without a head"):  # whose token vectors are narrower than what it gives
        model.base_model.save_pretrained(tmp_path)
    texts = [f"{text} {word}" for text in TEXTS for word in WORDS]
    options = {"objective": "masked_lm", "freeze_depth": freeze_depth, "learning_rate": 1e-2, "random_state": 0}
    adapted = AdaptedBackbone(f"hf:{tmp_path}", dtype="float32", **options).fit(texts)
    report, backbone = adapted.adaptation_report_, adapted.backbone_
    assert report["loss_after"] < report["loss_before"] - 0.1
    assert pickle.loads(pickle.dumps(backbone)).fingerprint == backbone.fingerprint
    adapted.save(tmp_path / "adapted.safetensors")
    again = load_backbone(f"hf:{tmp_path}", weights=tmp_path / "adapted.safetensors")
    assert again.fingerprint == backbone.fingerprint


def test_a_network_without_a_token_that_hides_is_refused(tmp_path):
    transformers.AutoModel.from_config(CONFIGURATIONS["gpt2"](transformers)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(UnsupportedBackboneError, match="knows none. Choose a network such as BERT's"):
        AdaptedBackbone(f"hf:{tmp_path}", objective="masked_lm").fit(TEXTS)
