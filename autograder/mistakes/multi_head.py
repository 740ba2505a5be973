"""03: what goes wrong in splitting, merging and attending with several heads."""

import math

import torch
from torch import nn

from autograder.mistakes import mistake
from lab.parts import merge_heads, scaled_dot_product_attention, split_heads

# split_heads


@mistake(
    "split_heads",
    "H2",
    "heads split without transpose",
    "Each head gets a run of neighbouring tokens with all their features, not a slice of every "
    "token's features.",
    "Cut the last axis in two first, [B, T, H, d_k]; then swap the axes T and H.",
)
def split_without_transpose(x, n_heads):
    batch, length, d_model = x.shape
    return x.reshape(batch, n_heads, length, d_model // n_heads)


@mistake(
    "split_heads",
    "H2b",
    "the heads stay behind the tokens",
    "The result is [B, T, H, d_k]: attention would then be between the heads of one token.",
    "One step is missing: swap the axes of tokens and heads.",
)
def split_not_transposed(x, n_heads):
    return x.unflatten(-1, (n_heads, -1))


@mistake(
    "split_heads",
    "H2c",
    "the wrong axes swapped",
    "The result is [B, H, d_k, T]: tokens and features have changed places.",
    "After [B, T, H, d_k], swap axes 1 and 2 and leave the last one last.",
)
def split_with_features_first(x, n_heads):
    return x.unflatten(-1, (n_heads, -1)).permute(0, 2, 3, 1)


@mistake(
    "split_heads",
    "H4",
    "features dealt out like cards",
    "Head h gets every H-th feature, h, h+H, h+2H …; it should get neighbouring ones.",
    "The last axis is n_heads runs of d_k: [B, T, H, d_k], not [B, T, d_k, H].",
)
def split_interleaved(x, n_heads):
    return x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)


@mistake(
    "split_heads",
    "H4b",
    "n_heads and d_k swapped",
    "The features are cut into d_k heads of width n_heads.",
    "There are n_heads heads, each d_model // n_heads wide. torch.split takes a width, chunk a "
    "number.",
)
def split_by_width(x, n_heads):
    return torch.stack(x.split(n_heads, dim=-1), dim=1)


@mistake(
    "split_heads",
    "H16a",
    "heads in front of the batch",
    "The result is [H, B, T, d_k]: the sentences of the batch must come first.",
    "stack(…, dim=1) puts the new axis behind the batch.",
)
def split_with_heads_first(x, n_heads):
    return torch.stack(x.chunk(n_heads, dim=-1))


@mistake(
    "split_heads",
    "H16b",
    "heads and batch in one axis",
    "The result is [B·H, T, d_k]: heads should have an axis of their own.",
    "Keep four axes, [B, H, T, d_k]; masks [B, 1, T, S] line up with them.",
)
def split_into_the_batch(x, n_heads):
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2).flatten(0, 1)


@mistake(
    "split_heads",
    "H16c",
    "a list of heads",
    "A tuple of n_heads tensors comes back; one tensor with an axis for the heads is asked for.",
    "torch.stack(pieces, dim=1), or a reshape and a transpose.",
)
def split_into_a_tuple(x, n_heads):
    return x.chunk(n_heads, dim=-1)


@mistake(
    "split_heads",
    "S5",
    "the graph is cut",
    "No gradient flows back: .detach(), .data or numpy stands on the way.",
    "reshape and transpose keep the graph by themselves.",
)
def split_detached(x, n_heads):
    return x.detach().unflatten(-1, (n_heads, -1)).transpose(1, 2)


# merge_heads


@mistake(
    "merge_heads",
    "H1",
    "heads merged without transpose",
    "A token's result is put together from several tokens of one head, not from its own results "
    "in all heads.",
    "Swap the axes of heads and tokens back first: [B, T, H, d_k]; then join the last two.",
)
def merge_without_transpose(x):
    batch, heads, length, d_k = x.shape
    return x.reshape(batch, length, heads * d_k)


@mistake(
    "merge_heads",
    "H1b",
    "view after transpose",
    "After transpose the numbers no longer lie in one piece, and view refuses.",
    "reshape copies where it must; or .contiguous() before view.",
)
def merge_with_view(x):
    batch, heads, length, d_k = x.shape
    return x.transpose(1, 2).view(batch, length, heads * d_k)


@mistake(
    "merge_heads",
    "H1c",
    "heads not joined",
    "The result is [B, T, H, d_k]: the heads stand beside each other, but still on two axes.",
    "One step is missing: join the last two axes into d_model.",
)
def merge_not_joined(x):
    return x.transpose(1, 2)


@mistake(
    "merge_heads",
    "H4",
    "features dealt out like cards",
    "Feature 0 of all heads comes first, then feature 1 of all; it should be head by head.",
    "Join [B, T, H, d_k], not [B, T, d_k, H].",
)
def merge_interleaved(x):
    return x.permute(0, 2, 3, 1).flatten(2)


@mistake(
    "merge_heads",
    "H17a",
    "heads added up",
    "The heads are added: width d_k, and nobody can tell any more which head said what.",
    "Put them side by side; out_proj mixes them later.",
)
def merge_by_sum(x):
    return x.sum(1)


@mistake(
    "merge_heads",
    "H17b",
    "mean of the heads",
    "The heads are averaged: width d_k, and nobody can tell any more which head said what.",
    "Put them side by side; out_proj mixes them later.",
)
def merge_by_mean(x):
    return x.mean(1)


@mistake(
    "merge_heads",
    "H17c",
    "heads one below the other",
    "The heads are joined along the tokens: [B, H·T, d_k].",
    "Join them along the features: a token keeps one row, d_model wide.",
)
def merge_along_tokens(x):
    return x.flatten(1, 2)


@mistake(
    "merge_heads",
    "H17d",
    "tokens and features joined",
    "The result is [B, H, T·d_k]: the last two axes are joined before heads and tokens are "
    "swapped.",
    "Swap first: [B, T, H, d_k]; then the last two axes are heads and features.",
)
def merge_tokens_and_features(x):
    return x.flatten(2)


@mistake(
    "merge_heads",
    "S5",
    "the graph is cut",
    "No gradient flows back: .detach(), .data or numpy stands on the way.",
    "transpose and reshape keep the graph by themselves.",
)
def merge_detached(x):
    return x.detach().transpose(1, 2).flatten(2)


# MultiHeadAttention: each step can go wrong by itself


class _Heads(nn.Module):
    """Right as it stands; the mistakes below change one step."""

    def __init__(self, d_model, n_heads):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model={d_model} is not a multiple of n_heads={n_heads}")
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def project(self, query, key, value):
        return self.q_proj(query), self.k_proj(key), self.v_proj(value)

    def split(self, x):
        return split_heads(x, self.n_heads)

    def attend(self, query, key, value, mask):
        return scaled_dot_product_attention(query, key, value, mask)

    def merge(self, heads):
        return merge_heads(heads)

    def forward(self, query, key, value, mask=None):
        query, key, value = (self.split(x) for x in self.project(query, key, value))
        output, weights = self.attend(query, key, value, mask)
        return self.out_proj(self.merge(output)), weights


def _attend(query, key, value, mask, scale, fill=-math.inf, dim=-1):
    """Attention with torch's softmax: NaN where every score is -inf."""
    scores = query @ key.transpose(-2, -1) / scale
    if mask is not None:
        scores = scores.masked_fill(~mask, fill)
    weights = torch.softmax(scores, dim)
    return weights @ value, weights


def heads_mistake(id, name, sentence, hint):
    return mistake("MultiHeadAttention", id, name, sentence, hint)


@heads_mistake(
    "H1",
    "heads merged without transpose",
    "The heads' results are reshaped to [B, T, D] as they lie: a token gets results of others.",
    "merge_heads swaps heads and tokens back before it joins.",
)
class MergedWithoutTranspose(_Heads):
    def merge(self, heads):
        return heads.reshape(heads.size(0), heads.size(2), -1)


@heads_mistake(
    "H2",
    "heads split without transpose",
    "[B, T, D] is reshaped to [B, H, T, d_k] as it lies: a head holds a few tokens, not a slice "
    "of each.",
    "split_heads cuts the features first and then swaps tokens and heads.",
)
class SplitWithoutTranspose(_Heads):
    def split(self, x):
        return x.reshape(x.size(0), self.n_heads, x.size(1), -1)


@heads_mistake(
    "H3",
    "split and merged without transpose",
    "Both reshapes lack the transpose. They undo each other, so tokens look right, but each head "
    "attends between the wrong pieces.",
    "Use split_heads before and merge_heads after the attention.",
)
class NeverTransposed(SplitWithoutTranspose, MergedWithoutTranspose):
    pass


@heads_mistake(
    "H3b",
    "heads attend within a token",
    "The heads stay behind the tokens, [B, T, H, d_k]: the heads of one token look at each other.",
    "Attention is between the last two axes but one: tokens must stand there, [B, H, T, d_k].",
)
class WithinAToken(_Heads):
    def split(self, x):
        return x.unflatten(-1, (self.n_heads, -1))

    def merge(self, heads):
        return heads.flatten(2)


@heads_mistake(
    "H4",
    "features dealt out like cards",
    "Heads take every H-th feature; they should take neighbouring ones. It trains, but weights "
    "of other models do not fit.",
    "Head h takes features h·d_k to (h+1)·d_k - 1, as split_heads does.",
)
class Interleaved(_Heads):
    def split(self, x):
        return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)

    def merge(self, heads):
        return heads.permute(0, 2, 3, 1).flatten(2)


@heads_mistake(
    "H5",
    "scaled by √d_model",
    "The scores are divided by √d_model; a head is only d_k = d_model / n_heads wide.",
    "Attend after splitting: the width is then d_k by itself.",
)
class ScaledByTheWhole(_Heads):
    def attend(self, query, key, value, mask):
        more = math.sqrt(self.n_heads)  # √d_k · √H = √d_model
        return scaled_dot_product_attention(query / more, key, value, mask)


@heads_mistake(
    "A1",
    "not divided by √d_k",
    "The scores are not divided by √d_k, and softmax takes one key for all.",
    "scaled_dot_product_attention of lesson 01 has the scale in it.",
)
class NotScaled(_Heads):
    def attend(self, query, key, value, mask):
        more = math.sqrt(query.size(-1))
        return scaled_dot_product_attention(query * more, key, value, mask)


@heads_mistake(
    "H6",
    "softmax over the heads",
    "The weights sum to 1 over the heads: heads compete with each other, keys do not.",
    "The keys are the last axis of [B, H, T, S]: dim=-1.",
)
class OverHeads(_Heads):
    def attend(self, query, key, value, mask):
        return _attend(query, key, value, mask, math.sqrt(query.size(-1)), -1e4, dim=1)


@heads_mistake(
    "A4",
    "softmax over the queries",
    "The weights sum to 1 over the queries (columns), not over the keys (rows).",
    "The keys are the last axis of [B, H, T, S]: dim=-1.",
)
class OverQueries(_Heads):
    def attend(self, query, key, value, mask):
        return _attend(query, key, value, mask, math.sqrt(query.size(-1)), -1e4, dim=-2)


@heads_mistake(
    "H7",
    "output projection missing",
    "The merged heads are returned as they are: out_proj is made and never used.",
    "return self.out_proj(merged), weights",
)
class NoOutputProjection(_Heads):
    def forward(self, query, key, value, mask=None):
        query, key, value = (self.split(x) for x in self.project(query, key, value))
        output, weights = self.attend(query, key, value, mask)
        return self.merge(output), weights


@heads_mistake(
    "H8a",
    "keys from the queries' projection",
    "q_proj makes the keys as well: k_proj never learns.",
    "The keys are k_proj(key).",
)
class OneProjection(_Heads):
    def project(self, query, key, value):
        return self.q_proj(query), self.q_proj(key), self.v_proj(value)


@heads_mistake(
    "H8b",
    "projections of keys and values swapped",
    "k_proj makes the values and v_proj the keys.",
    "k_proj belongs to key, v_proj to value.",
)
class SwappedProjections(_Heads):
    def project(self, query, key, value):
        return self.q_proj(query), self.v_proj(key), self.k_proj(value)


@heads_mistake(
    "H8c",
    "values not projected",
    "The values go into the heads as they are: v_proj never learns.",
    "The values are v_proj(value).",
)
class RawValues(_Heads):
    def project(self, query, key, value):
        return self.q_proj(query), self.k_proj(key), value


@heads_mistake(
    "H8d",
    "projections without bias",
    "The four Linears have no bias; the contract's have one.",
    "nn.Linear has a bias unless it is told otherwise.",
)
class NoBias(_Heads):
    def __init__(self, d_model, n_heads):
        super().__init__(d_model, n_heads)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(d_model, d_model, bias=False))


@heads_mistake(
    "H9",
    "all heads alike",
    "The projections are d_k wide and every head gets a copy: all heads see the same.",
    "Linear(d_model, d_model) is n_heads projections in one; split_heads gives each head its own.",
)
class AllAlike(_Heads):
    def __init__(self, d_model, n_heads):
        super().__init__(d_model, n_heads)
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(self, name, nn.Linear(d_model, d_model // n_heads))

    def split(self, x):
        return x.unsqueeze(1).expand(-1, self.n_heads, -1, -1)


@heads_mistake(
    "H10",
    "heads in a plain list",
    "Layers in a Python list are invisible to PyTorch: no optimizer and no checkpoint finds them.",
    "One Linear(d_model, d_model) as an attribute serves all heads: self.q_proj = nn.Linear(…).",
)
class PlainList(_Heads):
    def __init__(self, d_model, n_heads):
        super().__init__(d_model, n_heads)
        del self.q_proj, self.k_proj, self.v_proj
        d_k = d_model // n_heads
        self.heads = [[nn.Linear(d_model, d_k) for _ in range(3)] for _ in range(n_heads)]

    def forward(self, query, key, value, mask=None):
        inputs, found = (query, key, value), []
        for i, head in enumerate(self.heads):
            own = mask[:, i] if mask is not None and mask.dim() == 4 and mask.size(1) > 1 else mask
            own = own.squeeze(1) if own is not None and own.dim() == 4 else own
            projected = (each.to(x)(x) for each, x in zip(head, inputs, strict=True))
            found.append(scaled_dot_product_attention(*projected, own))
        output, weights = zip(*found, strict=True)
        return self.out_proj(torch.cat(output, -1)), torch.stack(weights, 1)


@heads_mistake(
    "H11",
    "attends to itself",
    "Keys and values are made from the query: in cross-attention the memory has no say at all.",
    "k_proj(key) and v_proj(value): who asks and who answers may be two sentences.",
)
class AttendsToItself(_Heads):
    def project(self, query, key, value):
        return self.q_proj(query), self.k_proj(query), self.v_proj(query)


@heads_mistake(
    "H11b",
    "value is not used",
    "The values are made from key. In this model the two are equal; in a part of its own they "
    "need not be.",
    "The values are v_proj(value).",
)
class ValuesFromKeys(_Heads):
    def project(self, query, key, value):
        return self.q_proj(query), self.k_proj(key), self.v_proj(key)


@heads_mistake(
    "H12",
    "uneven heads accepted",
    "d_model=10 and n_heads=3 raise no error here; the trouble shows later, far from its cause.",
    "In __init__: if d_model % n_heads != 0, raise a ValueError that names both.",
)
class Uneven(_Heads):
    def __init__(self, d_model, n_heads):
        nn.Module.__init__(self)
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)


@heads_mistake(
    "H12b",
    "uneven heads met with assert",
    "An AssertionError says that the code is wrong; it is the caller's number that is.",
    "raise ValueError(…): assert vanishes under python -O.",
)
class UnevenAsserted(Uneven):
    def __init__(self, d_model, n_heads):
        assert d_model % n_heads == 0
        super().__init__(d_model, n_heads)


@heads_mistake(
    "H13",
    "scores returned as weights",
    "The second result is the scores; it should be the weights after softmax.",
    "scaled_dot_product_attention gives both: (output, weights).",
)
class ReturnsScores(_Heads):
    def attend(self, query, key, value, mask):
        output, _ = scaled_dot_product_attention(query, key, value, mask)
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
        return output, scores if mask is None else scores.masked_fill(~mask, -math.inf)


@heads_mistake(
    "H13b",
    "weights averaged over the heads",
    "The second result is the mean over the heads, as torch's layer gives it; here each head "
    "shows its own.",
    "Return the weights as attention gave them: [B, H, T, S].",
)
class MeanWeights(_Heads):
    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return output, weights.mean(1)


@heads_mistake(
    "H13c",
    "only the output is returned",
    "One tensor comes back; two are asked for: (output, weights).",
    "return output, weights",
)
class NoWeights(_Heads):
    def forward(self, query, key, value, mask=None):
        return super().forward(query, key, value, mask)[0]


@heads_mistake(
    "H13d",
    "weights and output swapped",
    "The two results come in the wrong order: (output, weights) is asked for.",
    "return output, weights",
)
class SwappedResults(_Heads):
    def forward(self, query, key, value, mask=None):
        return super().forward(query, key, value, mask)[::-1]


@heads_mistake(
    "M0",
    "the mask is not passed on",
    "A mask changes nothing: it never reaches the attention.",
    "scaled_dot_product_attention(query, key, value, mask)",
)
class NoMask(_Heads):
    def attend(self, query, key, value, mask):
        return super().attend(query, key, value, None)


@heads_mistake(
    "M1",
    "mask upside down",
    "The mask is inverted, as nn.MultiheadAttention wants it; here True means may look.",
    "Pass the mask on as it is.",
)
class InvertedMask(_Heads):
    def attend(self, query, key, value, mask):
        return super().attend(query, key, value, None if mask is None else ~mask)


@heads_mistake(
    "M10",
    "an axis put into the mask",
    "mask.unsqueeze(1) is for masks of three axes; those of this course bring their own axis for "
    "the heads.",
    "Pass the mask on as it is: [T, S], [B, 1, 1, S] and [B, 1, T, S] all broadcast.",
)
class UnsqueezedMask(_Heads):
    def attend(self, query, key, value, mask):
        return super().attend(query, key, value, None if mask is None else mask.unsqueeze(1))


@heads_mistake(
    "M0b",
    "only the first head is masked",
    "The mask reaches head 0; the other heads see everything.",
    "Broadcast over the heads: pass the mask on as it is.",
)
class OneHeadMasked(_Heads):
    def attend(self, query, key, value, mask):
        if mask is not None:
            sizes = query.size(0), self.n_heads, query.size(2), key.size(2)
            others = torch.arange(self.n_heads).view(-1, 1, 1) > 0
            mask = mask.expand(sizes) | others
        return super().attend(query, key, value, mask)


@heads_mistake(
    "M14",
    "NaN for a query that sees nothing",
    "A row that is all -inf goes through torch's softmax and comes out as NaN.",
    "Use scaled_dot_product_attention of lesson 01: it gives zeros there.",
)
class NanForTheLost(_Heads):
    def attend(self, query, key, value, mask):
        return _attend(query, key, value, mask, math.sqrt(query.size(-1)))


@heads_mistake(
    "M14b",
    "equal shares for a query that sees nothing",
    "All scores hidden with one finite number are equal, so such a query looks everywhere alike.",
    "Fill with -inf and give zeros where a whole row is hidden, as lesson 01 does.",
)
class SharesForTheLost(_Heads):
    def attend(self, query, key, value, mask):
        lowest = torch.finfo(query.dtype).min
        return _attend(query, key, value, mask, math.sqrt(query.size(-1)), lowest)


@heads_mistake(
    "M5",
    "the fill overflows half precision",
    "Hidden scores are set to -1e9, which float16 does not have, and a query that sees nothing "
    "looks everywhere alike.",
    "Fill with -inf: every float dtype has it.",
)
class BigFill(_Heads):
    def attend(self, query, key, value, mask):
        return _attend(query, key, value, mask, math.sqrt(query.size(-1)), -1e9)


@heads_mistake(
    "A10",
    "dropout on the weights",
    "In training mode some weights are set to 0. This part has no dropout.",
    "Leave dropout to the layers (§5.4).",
)
class DropsWeights(_Heads):
    def attend(self, query, key, value, mask):
        _, weights = super().attend(query, key, value, mask)
        weights = nn.functional.dropout(weights, 0.1, self.training)
        return weights @ value, weights


@heads_mistake(
    "A11",
    "an input is changed in place",
    "The query is scaled in place: the caller's tensor is another one afterwards.",
    "`query = query / …` makes a new tensor, `query /= …` does not.",
)
class InPlace(_Heads):
    def forward(self, query, key, value, mask=None):
        with torch.no_grad():
            query /= math.sqrt(query.size(-1) // self.n_heads)
        query, key, value = (self.split(x) for x in self.project(query, key, value))
        output, weights = self.attend(query * math.sqrt(query.size(-1)), key, value, mask)
        return self.out_proj(self.merge(output)), weights


@heads_mistake(
    "L1",
    "the query is added",
    "The query is added to the output; the residual belongs to AddNorm, not to attention.",
    "Return what out_proj gives.",
)
class WithResidual(_Heads):
    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return output + query, weights
