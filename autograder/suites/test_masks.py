"""02 Masks say who may look at whom."""

import torch
import torch.nn.functional as F

from autograder.checks import PAD, B, H, K, S, T, check, holds, letters, same

READING = ("meta tensor", "meta device", "data-independent")  # what torch says of a meta tensor

# padding_mask


@check("padding_mask", points=1)
def test_padding_is_hidden(work, draw):
    """True for a word, False for padding, whatever the padding's id is and wherever it stands."""
    ids = _sentences(draw, S)

    for pad_id in (PAD, 0):
        found = work.padding_mask(ids, pad_id).bool().flatten()
        law = f"an entry is True where the id is not pad_id={pad_id} (entries sentence by sentence)"
        same(found, ids.ne(pad_id).flatten(), law)


@check("padding_mask", points=1)
def test_padding_mask_has_one_entry_per_key(work, draw):
    """The shape is [B, 1, 1, S]: one entry per key, shared by all heads and all queries."""
    for sizes in ((B, S), (1, S), (B, 1), (S, S)):
        found, wanted = work.padding_mask(draw.ids(*sizes), PAD), (sizes[0], 1, 1, sizes[1])
        same(letters(found), letters(wanted), f"for ids of shape {list(sizes)}: [B, 1, 1, S]")


@check("padding_mask", points=1)
def test_padded_keys_have_no_say(work, draw):
    """In attention, other numbers at the padded keys change no output."""
    query, key, value = draw(B, H, T, K), draw(B, H, S, K), draw(B, H, S, K)
    ids = _sentences(draw, S)
    padded = ids.eq(PAD).view(B, 1, S, 1)

    mask = work.padding_mask(ids, PAD).bool()
    before = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    key, value = (torch.where(padded, x + 9, x) for x in (key, value))
    after = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    same(after, before, "what stands at the padded keys reaches no query, not even a little")


@check("padding_mask", points=1)
def test_padding_mask_is_boolean(work, draw):
    """The mask is of dtype bool, on the device of the ids, and the ids stay as they were."""
    ids = draw.ids(B, S, low=PAD)

    mask = work.padding_mask(ids, PAD)
    same(str(mask.dtype), "torch.bool", "a mask is boolean")
    holds(draw.untouched(), "padding_mask leaves the ids as they were", "the ids have changed")
    _follows_the_device(lambda ids: work.padding_mask(ids, PAD), ids.to("meta"))


# causal_mask


@check("causal_mask", points=1)
def test_nobody_sees_the_future(work, draw):
    """Above the diagonal all is False: no position sees one that comes after it."""
    seen = _square(work.causal_mask(T), T)

    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    law = "[t, s] is False where s comes after t; the future among what may be seen"
    same(seen & future, torch.zeros_like(future), law)


@check("causal_mask", points=1)
def test_everybody_sees_the_past(work, draw):
    """Below the diagonal all is True: a position sees all that came before it."""
    seen = _square(work.causal_mask(T), T)

    past = torch.ones(T, T, dtype=torch.bool).tril(-1)
    same(seen & past, past, "[t, s] is True where s comes before t; the past that may be seen")


@check("causal_mask", points=1)
def test_everybody_sees_itself(work, draw):
    """The diagonal is True: a position sees itself, and so the first one sees something."""
    for length in (T, 1):
        found = _square(work.causal_mask(length), length).diagonal()
        same(found, torch.ones(length, dtype=torch.bool), "[t, t] is True: the diagonal")


@check("causal_mask", points=1)
def test_causal_mask_is_a_boolean_square(work, draw):
    """The mask is [T, T], of dtype bool, on the device that was asked for."""
    for length in (T, 1):
        mask = work.causal_mask(length)
        same(letters(mask), letters((length, length)), f"causal_mask({length}) is [T, T]")
        same(str(mask.dtype), "torch.bool", "a mask is boolean")
    for device in ("meta", torch.device("meta")):
        found = str(work.causal_mask(T, device=device).device)
        same(found, "meta", f"causal_mask(length, device={device!r}) is made there")


# decoder_mask. Entries are [sentence, query, key].


@check("decoder_mask", points=1)
def test_decoder_sees_no_future(work, draw):
    """No position sees one that comes after it, padding or not."""
    ids = _sentences(draw, T)

    seen = _pairs(work.decoder_mask(ids, PAD))
    future = ~_past()
    law = "[sentence, query, key] is False where the key comes after the query"
    same(seen & future, torch.zeros_like(seen), law)


@check("decoder_mask", points=1)
def test_decoder_sees_no_padding(work, draw):
    """No position sees padding, itself included where it is padding."""
    ids = _sentences(draw, T)

    seen = _pairs(work.decoder_mask(ids, PAD))
    padding = ids.eq(PAD).unsqueeze(1) & _past()  # the future has a check of its own
    law = "[sentence, query, key] is False where the key is padding"
    same(seen & padding, torch.zeros_like(seen), law)


@check("decoder_mask", points=1)
def test_decoder_sees_its_words_so_far(work, draw):
    """A word sees itself and every word before it."""
    ids = _sentences(draw, T)

    seen = _pairs(work.decoder_mask(ids, PAD))
    words = ids.ne(PAD).unsqueeze(1) & _past() & ids.ne(PAD).unsqueeze(2)
    law = "[sentence, query, key] is True where both are words and the key is not later"
    same(seen & words, words, law)


@check("decoder_mask", points=1)
def test_decoder_leaves_padding_queries_alone(work, draw):
    """Padding is hidden as a key only: as a query it sees the words before it."""
    ids = _sentences(draw, T)

    seen = _pairs(work.decoder_mask(ids, PAD))
    words = ids.ne(PAD).unsqueeze(1) & _past() & ids.eq(PAD).unsqueeze(2)
    law = "[sentence, query, key] is True where the query is padding and the key an earlier word"
    same(seen & words, words, law)


@check("decoder_mask", points=1)
def test_decoder_mask_has_a_table_per_sentence(work, draw):
    """The shape is [B, 1, T, T]: one table per sentence, shared by all heads."""
    for b, t in ((B, T), (1, T), (B, 1), (T, T)):
        found = work.decoder_mask(draw.ids(b, t), PAD)
        same(letters(found), letters((b, 1, t, t)), f"for ids of shape {[b, t]}: [B, 1, T, T]")


@check("decoder_mask", points=1)
def test_decoder_mask_is_boolean(work, draw):
    """The mask is of dtype bool, on the device of the ids, and the ids stay as they were."""
    ids = draw.ids(B, T, low=PAD)

    mask = work.decoder_mask(ids, PAD)
    same(str(mask.dtype), "torch.bool", "a mask is boolean")
    holds(draw.untouched(), "decoder_mask leaves the ids as they were", "the ids have changed")
    _follows_the_device(lambda ids: work.decoder_mask(ids, PAD), ids.to("meta"))


def _sentences(draw, length):
    """One sentence padded at its end, and one at its start; id 0 is a word, smaller than PAD."""
    ids = draw.ids(B, length, low=2).clone()
    ids[0, 0], ids[0, -2:], ids[1, 0] = 0, PAD, PAD
    return ids


def _past():
    """The key is the query or came before it."""
    return torch.ones(T, T, dtype=torch.bool).tril()


def _square(mask, length):
    """Who sees whom as [T, T], whatever other axes the mask has."""
    if mask.numel() != length * length:
        same(letters(mask), letters((length, length)), f"causal_mask({length}) is [T, T]")
    return mask.bool().reshape(length, length)


def _pairs(mask):
    """Who sees whom as [B, T, T], whatever other axes the mask has."""
    if mask.numel() == B * T * T:
        return mask.bool().reshape(B, T, T)
    if any(
        size not in (1, full) for size, full in zip(mask.shape[::-1], (T, T, 1, B), strict=False)
    ):
        same(letters(mask), letters((B, 1, T, T)), "decoder_mask is [B, 1, T, T]")
    return mask.bool().expand(B, 1, T, T)[:, 0]


def _follows_the_device(make, ids):
    """On a device without numbers; a mask that is written entry by entry cannot be tried there."""
    try:
        found = str(make(ids).device)
    except Exception as error:
        if not any(words in str(error) for words in READING):
            raise
    else:
        same(found, str(ids.device), "a mask is on the device of its ids")
