"""A generator in one file: text to text, taught with the right beginning, answering one letter at a time."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from skltransfer.engine import Readout, RecordTargets, Task

END, LONGEST = 0, 12


class Decoder(Readout):
    """A recurrent cell that looks at the text's tokens before each letter."""

    def __init__(self, width, n_letters):
        super().__init__()
        self.letters, self.cell = nn.Embedding(n_letters, width), nn.GRUCell(2 * width, width)
        self.look, self.head = nn.MultiheadAttention(width, 1, batch_first=True), nn.Linear(width, n_letters)

    def step(self, tokens, is_padding, letter, state):
        seen, _ = self.look(state[:, None], tokens, tokens, key_padding_mask=is_padding)
        state = self.cell(torch.cat([self.letters(letter), seen[:, 0]], dim=1), state)
        return self.head(state), state

    def memory(self, given):
        tokens = given[-1]
        is_padding = tokens[..., 0].isnan()
        tokens = torch.where(is_padding[..., None], 0.0, tokens)
        return tokens, is_padding, tokens.sum(1) / (~is_padding).sum(1, keepdim=True)

    def forward(self, given, batch=None):
        tokens, is_padding, state = self.memory(given)
        right = pad_sequence([record["letters"] for record in batch], batch_first=True)
        letter, outputs = torch.full_like(right[:, 0], END), []
        for following in right.T:
            output, state = self.step(tokens, is_padding, letter, state)
            outputs.append(output)
            letter = following
        return torch.stack(outputs, dim=1)  # (n, letters, vocabulary)


class ToyGeneration(Task):
    def __init__(self, alphabet):
        self.alphabet, self.n_outputs = alphabet, len(alphabet) + 1

    def targets(self, y):
        coded = [[self.alphabet.index(letter) + 1 for letter in text] + [END] for text in y]
        return RecordTargets([{"letters": np.array(letters)} for letters in coded])

    def new_readout(self, backbone, spec):
        return Decoder(backbone.activation_shapes[spec.taps[-1]][-1], self.n_outputs)

    def loss(self, outputs, batch):
        pairs = zip(outputs, batch, strict=True)
        return torch.stack([F.cross_entropy(one[: len(r["letters"])], r["letters"]) for one, r in pairs])

    def answers(self, network, activation, geometries):
        readout = network.readout
        tokens, is_padding, state = readout.memory(network.given(activation))
        letter, texts = torch.full((len(tokens),), END), [""] * len(tokens)
        has_ended = torch.zeros(len(tokens), dtype=torch.bool)
        for _ in range(LONGEST):
            output, state = readout.step(tokens, is_padding, letter, state)
            letter = output.argmax(1)
            has_ended |= letter == END
            texts = [t if e else t + self.alphabet[k - 1] for t, e, k in zip(texts, has_ended, letter, strict=True)]
        return texts
