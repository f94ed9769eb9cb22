"""Tiny seeded networks that need no download: for tests, docs and first steps. The smallest complete adapter.

What every adapter promises: a function ``(name, weights, options, outline) -> Backbone``; the model library is imported
inside it; the stages, one after the other, equal the library's own forward; the state dict keeps the library's names; a
missing library or file is an error that says what to do; an outline has random weights where it names others, and
fetches none. It must not know heads, training or caching.
"""

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from skltransfer.backbones._backbone import Backbone
from skltransfer.backbones._graph_cut import GraphCut
from skltransfer.backbones._layer_cut import LayerCut, TokenEntry, WaveformEntry
from skltransfer.backbones._preprocessing import ImagePreprocessing, RowPreprocessing
from skltransfer.backbones._random import seeded
from skltransfer.backbones._sequence_models import TOY_SEED, TOY_WRITER, toy_encoder
from skltransfer.backbones._tokens import TextPreprocessing, chosen_max_length
from skltransfer.backbones._waveforms import AudioPreprocessing
from skltransfer.backbones._weights import fit_state, random_seed, read_state
from skltransfer.exceptions import BackboneNotFoundError

PRETRAINED_SEED = 20_261_121
OTHERS = ("audio", "text", "text-to-text")
STAGES = ("stem", "block1", "block2", "block3")
DROPOUT = {
    "stem": 0.0,
    "block1": 0.05,
    "block2": 0.05,
    "block3": 0.0,
}  # networks that never learnt to bear it get little


class ToyNetwork(nn.Module):
    """Four stages with the organs that go wrong elsewhere (BatchNorm, dropout), pooling and a classification head."""

    def __init__(self, stages: Mapping[str, nn.Module], pool: nn.Module, n_classes: int = 5) -> None:
        super().__init__()
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.pool = pool
        self.head = nn.Linear(32, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.block3(self.block2(self.block1(self.stem(x))))))


def _row_stage(n_in: int, n_out: int, dropout: float) -> nn.Module:
    stage = nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.LeakyReLU(0.2), nn.Dropout(dropout))
    with torch.no_grad():
        stage[0].weight.copy_(_orthogonal(n_out, n_in))  # so that four random stages lose little of the row
    return stage


def _orthogonal(n_out: int, n_in: int) -> torch.Tensor:
    """A random rotation, rounded, so that it is the same on every processor, whose libraries factorise differently."""
    q, r = torch.linalg.qr(torch.empty(n_out, n_in, dtype=torch.float64).uniform_(-1, 1))
    return (q * r.diagonal().sign() * 4096).round() / 4096


def _image_stage(n_in: int, n_out: int, stride: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1), nn.BatchNorm2d(n_out), nn.ReLU(), nn.Dropout(dropout))


def _build_rows() -> nn.Module:
    return ToyNetwork({name: _row_stage(32, 32, DROPOUT[name]) for name in STAGES}, pool=nn.Identity())


def _build_images() -> nn.Module:
    shapes = {"stem": (3, 8, 1), "block1": (8, 16, 2), "block2": (16, 32, 2), "block3": (32, 32, 1)}
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return ToyNetwork({name: _image_stage(*shape, DROPOUT[name]) for name, shape in shapes.items()}, pool)


class ToyEncoder(nn.Module):
    """Three layers of a transformer over tokens, as a model of transformers has them."""

    WIDTH, POSITIONS = 32, 256

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(self.POSITIONS, self.WIDTH)
        # relu6, since torch has a fast path for relu alone, which a hook turns off: pieces and whole would round apart
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                self.WIDTH, 4, 64, dropout=0.05, activation=F.relu6, batch_first=True, norm_first=True
            )
            for _ in range(3)
        )
        self.norm = nn.LayerNorm(self.WIDTH)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> SimpleNamespace:
        x = hidden_states + self.positions(torch.arange(hidden_states.shape[1], device=hidden_states.device) % 256)
        padding = None
        if attention_mask is not None:
            padding = torch.zeros_like(x[..., 0]).masked_fill(attention_mask == 0, -torch.inf)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        return SimpleNamespace(last_hidden_state=self.norm(x))


class ToyReader(nn.Module):
    """Reads bytes; takes and gives what a model of transformers does."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.encoder = nn.Embedding(256, ToyEncoder.WIDTH), ToyEncoder()
        steps = torch.linspace(-2, 2, 256)[:, None] * torch.randn(1, ToyEncoder.WIDTH)  # so that near bytes look alike
        self.bytes.weight = nn.Parameter(steps + 0.3 * self.bytes.weight.detach())

    def get_input_embeddings(self) -> nn.Embedding:
        return self.bytes

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> SimpleNamespace:
        return self.encoder(self.bytes(input_ids) if inputs_embeds is None else inputs_embeds, attention_mask)


class ToyListener(nn.Module):
    """Hears 8,000 values a second in frames of 64; takes and gives what a model of waveforms does."""

    RATE, FRAME = 8000, 64

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.encoder = nn.Conv1d(1, ToyEncoder.WIDTH, self.FRAME, self.FRAME), ToyEncoder()

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None) -> SimpleNamespace:
        hidden = torch.relu(8 * self.frames(input_values[:, None])).transpose(1, 2)
        if attention_mask is not None:
            lengths = torch.div(attention_mask.sum(1), self.FRAME, rounding_mode="floor")
            attention_mask = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        return self.encoder(hidden, attention_mask)


class ToyTokenizer:
    """A token is a byte of UTF-8; of those that no text needs, 0 hides others and 255 is put between two texts."""

    is_fast = False
    mask_token_id, between, all_special_ids = 0, 255, [0]

    def __call__(
        self,
        text: str | list[str],
        text_pair: list[str] | None = None,
        *,
        verbose: bool = True,
        return_offsets_mapping: bool = False,
        add_special_tokens: bool = True,
    ) -> dict[str, list]:
        if text_pair is not None:
            pairs = list(zip(text, text_pair, strict=True))
            ids = [[*first.encode(), self.between, *second.encode()] for first, second in pairs]
            offsets = [[*_offsets(first), (0, 0), *_offsets(second)] for first, second in pairs]
            return {"input_ids": ids} | ({"offset_mapping": offsets} if return_offsets_mapping else {})
        read: dict[str, list] = {"input_ids": list(text.encode())}
        return read | ({"offset_mapping": _offsets(text)} if return_offsets_mapping else {})


def _offsets(text: str) -> list[tuple[int, int]]:
    """The letter that each byte of a text is of."""
    return [(i, i + 1) for i, letter in enumerate(text) for _ in letter.encode()]


def _load_toy_transformer(name: str, weights: str, options: Mapping[str, object]) -> Backbone:
    seed = PRETRAINED_SEED if weights == "pretrained" else random_seed(weights)
    with seeded(seed or 0):
        network = (ToyReader if name == "text" else ToyListener)().eval()
    if seed is None:
        fit_state(network, read_state(weights), optional=(), where=weights)
    if name == "text":
        longest = chosen_max_length(options, ToyEncoder.POSITIONS, ToyEncoder.POSITIONS, "toy:text")
        long_samples = options.get("long_samples") or "truncate"
        reader = TextPreprocessing("bytes of UTF-8", 256, longest, ToyTokenizer(), long_samples, (0, 0), (0, 1, 0))
        entry = TokenEntry(network)
    else:
        reader = AudioPreprocessing("as it is", ToyListener.RATE, shortest=ToyListener.FRAME)
        entry = WaveformEntry([ToyListener.FRAME], [ToyListener.FRAME])
    return Backbone(
        LayerCut(network, entry),
        name=f"toy:{name}",
        weights=weights,
        preprocessing=reader,
        pooling="mean",
        head_names=(),
        options=options,
    )


def _load_toy_writer(weights: str, options: Mapping[str, object]) -> Backbone:
    """The encoder of a tiny T5 that reads bytes; :func:`decoder_model` makes its decoder."""
    seed = TOY_SEED if weights == "pretrained" else random_seed(weights)
    network, tokenizer = toy_encoder(TOY_SEED if seed is None else seed)
    if seed is None:
        fit_state(network, read_state(weights), optional=(), where=weights)
    longest = chosen_max_length(options, 256, 256, TOY_WRITER)
    return Backbone(
        LayerCut(network, TokenEntry(network)),
        name=TOY_WRITER,
        weights=weights,
        preprocessing=TextPreprocessing.of(tokenizer, longest, options.get("long_samples") or "truncate"),
        pooling="mean",
        head_names=(),
        options=options,
    )


TOYS = {
    "rows": (_build_rows, RowPreprocessing(width=32)),
    "images": (_build_images, ImagePreprocessing(resize=16, crop=16, mean=(0.5,) * 3, std=(0.25,) * 3)),
}


def _estimate_norms(network: nn.Module) -> None:
    """Running statistics as training would have left them: not zero and one."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)


def load_toy(name: str, weights: str, options: Mapping[str, object], *, outline: bool = False) -> Backbone:
    """The adapter behind ``toy:rows``, ``toy:images``, ``toy:text``; their pretrained weights are those of one seed.

    These cost nothing to make, so that an ``outline`` has them too.
    """
    if f"toy:{name}" == TOY_WRITER:
        return _load_toy_writer(weights, options)
    if name in ("audio", "text"):
        return _load_toy_transformer(name, weights, options)
    if name not in TOYS:
        raise BackboneNotFoundError(
            f"No toy backbone {name!r}. Available: {sorted(f'toy:{n}' for n in (*TOYS, *OTHERS))}."
        )
    build, preprocessing = TOYS[name]
    seed = PRETRAINED_SEED if weights == "pretrained" else random_seed(weights)
    with seeded(seed or 0):
        network = build()
        _estimate_norms(network)
    if seed is None:
        fit_state(network, read_state(weights), optional={"head.weight", "head.bias"}, where=weights)
    return Backbone(
        GraphCut(network.eval(), [(stage, stage) for stage in STAGES]),
        name=f"toy:{name}",
        weights=weights,
        preprocessing=preprocessing.at(options.get("input_size")) if name == "images" else preprocessing,
        pooling="mean",
        head_names={"head.weight", "head.bias"},
        options=options,
    )
