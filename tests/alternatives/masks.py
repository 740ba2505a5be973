"""02: honest answers that differ from the reference in style only."""

import torch

from lab.parts import causal_mask, padding_mask

# padding_mask


def padding_by_unsqueeze(ids, pad_id):
    return ids.ne(pad_id).unsqueeze(1).unsqueeze(2)


def padding_by_view(ids, pad_id):
    batch, length = ids.shape
    return torch.logical_not(torch.eq(ids, pad_id)).view(batch, 1, 1, length)


def padding_by_where(ids, pad_id=0, dtype=torch.bool):
    word = torch.where(ids == pad_id, 0, 1).to(dtype)
    return word[:, None][:, :, None]


def padding_by_loops(ids, pad_id):
    batch, length = ids.shape
    mask = torch.zeros(batch, 1, 1, length, dtype=torch.bool, device=ids.device)
    for b in range(batch):
        for s in range(length):
            if ids[b, s] != pad_id:
                mask[b, 0, 0, s] = True
    return mask


def padding_from_a_list(ids, pad_id):
    rows = [[[[word != pad_id for word in sentence]]] for sentence in ids.tolist()]
    return torch.tensor(rows, dtype=torch.bool, device=ids.device)


# causal_mask


def causal_by_comparing(length, device=None):
    position = torch.arange(length, device=device)
    return position[None, :] <= position[:, None]


def causal_by_triu(length, device=None):
    return ~torch.triu(torch.ones(length, length, device=device), diagonal=1).bool()


def causal_by_loops(length, device=None):
    mask = torch.zeros(length, length, dtype=torch.bool, device=device)
    for t in range(length):
        mask[t, : t + 1] = True
    return mask


def causal_by_cumsum(length, device="cpu"):
    return torch.eye(length, device=device).cumsum(0) > 0


def causal_from_lists(length, device=None):
    rows = [[s <= t for s in range(length)] for t in range(length)]
    return torch.tensor(rows, device=device)


# decoder_mask


def decoder_by_logical_and(ids, pad_id):
    past = causal_mask(ids.shape[-1], device=ids.device)[None, None]
    return torch.logical_and(padding_mask(ids, pad_id), past)


def decoder_by_product(ids, pad_id):
    return padding_mask(ids, pad_id) * causal_mask(ids.size(1), ids.device)


def decoder_by_itself(ids, pad_id):
    position = torch.arange(ids.size(1), device=ids.device)
    past = position <= position.unsqueeze(1)
    return ((ids != pad_id).unsqueeze(1) & past).unsqueeze(1)


def decoder_by_filling(ids, pad_id):
    batch, length = ids.shape
    seen = causal_mask(length, ids.device).repeat(batch, 1, 1, 1)
    return seen.masked_fill(~padding_mask(ids, pad_id), False)


def decoder_by_loops(ids, pad_id):
    batch, length = ids.shape
    mask = torch.zeros(batch, 1, length, length, dtype=torch.bool, device=ids.device)
    for b in range(batch):
        for t in range(length):
            for s in range(t + 1):
                mask[b, 0, t, s] = bool(ids[b, s] != pad_id)
    return mask


ALTERNATIVES = {
    "padding_mask": [
        padding_by_unsqueeze,
        padding_by_view,
        padding_by_where,
        padding_by_loops,
        padding_from_a_list,
    ],
    "causal_mask": [
        causal_by_comparing,
        causal_by_triu,
        causal_by_loops,
        causal_by_cumsum,
        causal_from_lists,
    ],
    "decoder_mask": [
        decoder_by_logical_and,
        decoder_by_product,
        decoder_by_itself,
        decoder_by_filling,
        decoder_by_loops,
    ],
}
