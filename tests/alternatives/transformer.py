"""09 written otherwise."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from lab.parts import (
    Decoder,
    Encoder,
    PositionalEncoding,
    TokenEmbedding,
    causal_mask,
    decoder_mask,
    padding_mask,
)


class EmbeddingThatReadsItsWidth(nn.Module):
    def __init__(self, vocab_size, d_model, pad_id=0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model, pad_id)

    def forward(self, ids):
        x = self.embedding(ids)
        return x * x.size(-1) ** 0.5


class EmbeddingByIndex(nn.Module):
    """Smaller starting weights, the look-up by F.embedding, a buffer that is not saved."""

    def __init__(self, vocab_size, d_model, pad_id=0):
        super().__init__()
        self.pad_id = pad_id
        self.embedding = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        with torch.no_grad():
            self.embedding.weight[pad_id].zero_()
        self.register_buffer("root", torch.tensor(math.sqrt(d_model)), persistent=False)

    def forward(self, ids):
        table = self.embedding.weight
        return F.embedding(ids, table, padding_idx=self.pad_id) * self.root.to(table.dtype)


class EmbeddingThatBlanksPadding(nn.Module):
    """Padding is made zero once more on its way out."""

    def __init__(self, vocab_size, d_model, pad_id=0):
        super().__init__()
        self.d_model, self.pad_id = d_model, pad_id
        self.embedding = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)

    def forward(self, ids):
        words = (ids != self.pad_id).unsqueeze(-1)
        return (self.embedding(ids) * math.sqrt(self.d_model)).masked_fill(~words, 0)


class _Made(nn.Module):
    def __init__(
        self,
        vocab_size,
        d_model=256,
        n_heads=4,
        n_layers=3,
        d_ff=1024,
        dropout=0.1,
        max_len=512,
        pad_id=0,
    ):
        super().__init__()
        self.decoder = Decoder(n_layers, d_model, n_heads, d_ff, dropout)
        self.encoder = Encoder(n_layers, d_model, n_heads, d_ff, dropout)
        self.positions = PositionalEncoding(d_model, dropout=dropout, max_len=max_len)
        self.embedding = TokenEmbedding(vocab_size, d_model, pad_id=pad_id)
        self.pad_id = pad_id


class ModelByLinear(_Made):
    """F.linear with the table; masks written out by hand."""

    def embed(self, ids):
        return self.positions(self.embedding(ids))

    def encode(self, src):
        return self.encoder(self.embed(src), (src != self.pad_id)[:, None, None])

    def decode(self, tgt, memory, src):
        words = (tgt != self.pad_id)[:, None, None, :]
        past = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool, device=tgt.device).tril()
        x = self.decoder(self.embed(tgt), memory, words & past, (src != self.pad_id)[:, None, None])
        return F.linear(x, self.embedding.embedding.weight)

    def forward(self, src, tgt):
        memory = self.encode(src)
        return self.decode(tgt, memory, src)


class ModelByEinsum(_Made):
    """Masks by keyword, full [T, S] masks, einsum for the logits."""

    def encode(self, src):
        mask = padding_mask(src, self.pad_id).expand(-1, -1, src.size(1), -1)
        return self.encoder(self.positions(self.embedding(src)), mask=mask)

    def decode(self, tgt, memory, src):
        across = padding_mask(src, self.pad_id).expand(-1, -1, tgt.size(1), -1)
        own = causal_mask(tgt.size(1), tgt.device) & padding_mask(tgt, self.pad_id)
        x = self.positions(self.embedding(tgt))
        x = self.decoder(x, memory, self_mask=own, cross_mask=across)
        return torch.einsum("btd,vd->btv", x, self.embedding.embedding.weight)

    def forward(self, src, tgt, *, return_memory=False):
        memory = self.encode(src)
        logits = self.decode(tgt, memory, src)
        return (logits, memory) if return_memory else logits


class ModelWithoutHelpers(nn.Module):
    """Everything in forward's words; the table under a property."""

    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0, **_):  # fmt: skip
        super().__init__()
        self.pad_id, self.d_model = pad_id, d_model
        self.embedding = TokenEmbedding(vocab_size, d_model, pad_id)
        self.positions = PositionalEncoding(d_model, dropout, max_len)
        stacks = (Encoder, Decoder)
        self.encoder, self.decoder = (
            stack(n_layers, d_model, n_heads, d_ff, dropout) for stack in stacks
        )

    @property
    def table(self):
        return self.embedding.embedding.weight

    def encode(self, src):
        hidden = src == self.pad_id
        return self.encoder(self.positions(self.embedding(src)), ~hidden[:, None, None, :])

    def decode(self, tgt, memory, src):
        x = self.positions(self.embedding(tgt))
        masks = decoder_mask(tgt, self.pad_id), padding_mask(src, self.pad_id)
        return self.decoder(x, memory, *masks).matmul(self.table.transpose(0, 1))

    def forward(self, src, tgt):
        return self.decode(tgt=tgt, memory=self.encode(src), src=src)


ALTERNATIVES = {
    "TokenEmbedding": [EmbeddingThatReadsItsWidth, EmbeddingByIndex, EmbeddingThatBlanksPadding],
    "Transformer": [ModelByLinear, ModelByEinsum, ModelWithoutHelpers],
}
