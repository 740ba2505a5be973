# %% [markdown]
"""
# 09 The whole model

Embed, add positions, encode; embed, add positions, decode; compare with every word (Figure 1).
"""

# %%
import math

from jaxtyping import Float, Int
from torch import Tensor, nn

from lab.parts import Decoder, Encoder, PositionalEncoding, decoder_mask, padding_mask

# %% [markdown]
"""
## TokenEmbedding

A vector per token, scaled up so that the positions do not drown it (§3.4).
"""


# %% solution="TokenEmbedding"
class TokenEmbedding(nn.Module):
    """embedding(ids) · √d_model; the padding token is the zero vector."""

    def __init__(self, vocab_size: int, d_model: int, pad_id: int = 0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)
        self.scale = math.sqrt(d_model)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        return self.embedding(ids) * self.scale


# %% [markdown]
"""
## Transformer

One embedding serves the source, the target and, transposed, the output (§3.4).
"""


# %% solution="Transformer"
class Transformer(nn.Module):
    """From source and target ids to the logits of each next target token."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 256,
        n_heads: int = 4,
        n_layers: int = 3,
        d_ff: int = 1024,
        dropout: float = 0.1,
        max_len: int = 512,
        pad_id: int = 0,
    ):
        super().__init__()
        self.pad_id = pad_id
        self.embedding = TokenEmbedding(vocab_size, d_model, pad_id)
        self.positions = PositionalEncoding(d_model, dropout, max_len)
        self.encoder = Encoder(n_layers, d_model, n_heads, d_ff, dropout)
        self.decoder = Decoder(n_layers, d_model, n_heads, d_ff, dropout)

    def encode(self, src: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """The memory: what the decoder may look at."""
        x = self.positions(self.embedding(src))
        return self.encoder(x, padding_mask(src, self.pad_id))

    def decode(
        self,
        tgt: Int[Tensor, "B T"],
        memory: Float[Tensor, "B S D"],
        src: Int[Tensor, "B S"],
    ) -> Float[Tensor, "B T V"]:
        """Logits of the token after each target position; src tells which memory is padding."""
        x = self.positions(self.embedding(tgt))
        x = self.decoder(x, memory, decoder_mask(tgt, self.pad_id), padding_mask(src, self.pad_id))
        return x @ self.embedding.embedding.weight.T

    def forward(self, src: Int[Tensor, "B S"], tgt: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        return self.decode(tgt, self.encode(src), src)
