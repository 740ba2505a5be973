"""02: what goes wrong in masks."""

import torch

from autograder.mistakes import mistake
from lab.parts import causal_mask, padding_mask

# padding_mask


@mistake(
    "padding_mask",
    "M1",
    "mask upside down",
    "True stands at the padding; True in a mask means the query MAY look.",
    "Compare with != pad_id: words are True.",
)
def padding_inverted(ids, pad_id):
    return (ids == pad_id)[:, None, None, :]


@mistake(
    "padding_mask",
    "M9",
    "padding on the query axis",
    "The shape is [B, 1, S, 1]: queries are hidden, whole rows of them, and every key stays seen.",
    "Keys are the last axis of the scores: the sentence belongs there, [:, None, None, :].",
)
def padding_of_queries(ids, pad_id):
    return (ids != pad_id)[:, None, :, None]


@mistake(
    "padding_mask",
    "M9b",
    "padding on both axes",
    "Padding is hidden as query and as key, in a square; it is to be hidden as key only.",
    "One entry per key: [B, 1, 1, S]. Whoever asks may be another sentence, of another length.",
)
def padding_of_both(ids, pad_id):
    word = ids != pad_id
    return word[:, None, :, None] & word[:, None, None, :]


@mistake(
    "padding_mask",
    "M10",
    "no axes for heads and queries",
    "The mask is [B, S]; lined up from the right with [B, H, T, S], its B meets T.",
    "Two axes of length 1 belong between B and S.",
)
def padding_without_axes(ids, pad_id):
    return ids != pad_id


@mistake(
    "padding_mask",
    "M10b",
    "one axis too few",
    "The mask is [B, 1, S]; lined up from the right with [B, H, T, S], its B meets the heads.",
    "Two axes are missing between B and S, one for the heads and one for the queries.",
)
def padding_with_one_axis(ids, pad_id):
    return (ids != pad_id).unsqueeze(1)


@mistake(
    "padding_mask",
    "M10c",
    "a row for every key",
    "The mask is stretched to [B, 1, S, S]: it fits no decoder that asks T queries of S keys.",
    "Leave the query axis at length 1; broadcasting stretches it to any T.",
)
def padding_as_square(ids, pad_id):
    return (ids != pad_id)[:, None, None, :].expand(-1, 1, ids.size(1), -1)


@mistake(
    "padding_mask",
    "M17a",
    "a mask of numbers",
    "The mask holds 1.0 and 0.0; asked for are True and False, and ~ does not work on floats.",
    "A comparison is boolean already: no .float().",
)
def padding_as_floats(ids, pad_id):
    return (ids != pad_id)[:, None, None, :].float()


@mistake(
    "padding_mask",
    "M17b",
    "a mask of integers",
    "The mask holds 1 and 0 as integers: ~1 is -2, and that is not False.",
    "A comparison is boolean already: no .int(), no .long().",
)
def padding_as_integers(ids, pad_id):
    return (ids != pad_id)[:, None, None, :].long()


@mistake(
    "padding_mask",
    "M17c",
    "a mask to be added",
    "The mask holds 0 and -inf, to be added to scores; asked for are True and False.",
    "Hand over True where a query may look; attention itself fills in -inf.",
)
def padding_to_add(ids, pad_id):
    padding = (ids == pad_id)[:, None, None, :]
    return torch.zeros(padding.shape).masked_fill(padding, float("-inf"))


@mistake(
    "padding_mask",
    "M18a",
    "pad_id is not used",
    "Padding is taken to be 0, whatever pad_id says.",
    "Compare with pad_id.",
)
def padding_is_zero(ids, pad_id):
    return (ids != 0)[:, None, None, :]


@mistake(
    "padding_mask",
    "M18b",
    "smaller ids hidden too",
    "Ids are compared with > pad_id: words whose id is smaller are hidden as well.",
    "Only equality counts: != pad_id.",
)
def padding_by_order(ids, pad_id):
    return (ids > pad_id)[:, None, None, :]


@mistake(
    "padding_mask",
    "M18c",
    "padding taken to stand at the end",
    "The words are counted and the first so many places are True; padding in front is then missed.",
    "Look at each place by itself.",
)
def padding_by_length(ids, pad_id):
    lengths = (ids != pad_id).sum(1, keepdim=True)
    return (torch.arange(ids.size(1), device=ids.device) < lengths)[:, None, None, :]


@mistake(
    "padding_mask",
    "A11",
    "the ids are changed in place",
    "The ids themselves become zeros and ones: the caller's sentences are gone.",
    "ids != pad_id makes a new tensor.",
)
def padding_in_place(ids, pad_id):
    ids.copy_(ids != pad_id)
    return ids.bool()[:, None, None, :]


# causal_mask


@mistake(
    "causal_mask",
    "M1",
    "mask upside down",
    "True stands above the diagonal, at the future; True in a mask means the query MAY look.",
    "Keep the lower triangle: .tril().",
)
def causal_inverted(length, device=None):
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


@mistake(
    "causal_mask",
    "M6",
    "cannot see itself",
    "The diagonal is False: no position sees itself, and the first one sees nothing at all.",
    "tril() without an offset keeps the diagonal; with < use <=.",
)
def causal_without_diagonal(length, device=None):
    return torch.ones(length, length, dtype=torch.bool, device=device).tril(-1)


@mistake(
    "causal_mask",
    "M7",
    "sees one token of the future",
    "Each position also sees the one after it, which is the very word it should predict.",
    "tril() without an offset ends at the diagonal.",
)
def causal_with_next(length, device=None):
    return torch.ones(length, length, dtype=torch.bool, device=device).tril(1)


@mistake(
    "causal_mask",
    "M8",
    "triangle flipped",
    "The upper triangle is True: each position sees what comes after it and not what came before.",
    "Rows are queries, columns are keys: row t is True up to column t. That is tril, not triu.",
)
def causal_flipped(length, device=None):
    return torch.ones(length, length, dtype=torch.bool, device=device).triu()


@mistake(
    "causal_mask",
    "M0",
    "nothing is hidden",
    "All is True, the future too.",
    "Keep the lower triangle of the ones: .tril().",
)
def causal_of_ones(length, device=None):
    return torch.ones(length, length, dtype=torch.bool, device=device)


@mistake(
    "causal_mask",
    "M0b",
    "sees only itself",
    "Only the diagonal is True: each position is alone.",
    "The whole lower triangle is True, not just the diagonal.",
)
def causal_of_itself(length, device=None):
    return torch.eye(length, dtype=torch.bool, device=device)


@mistake(
    "causal_mask",
    "M8b",
    "mirrored left to right",
    "The triangle stands on the wrong corner: the first position sees the most, and the last "
    "only the first.",
    "Row t is True up to column t.",
)
def causal_mirrored(length, device=None):
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().flip(0)


@mistake(
    "causal_mask",
    "M17a",
    "a mask of numbers",
    "The mask holds 1.0 and 0.0; asked for are True and False.",
    "torch.ones(..., dtype=torch.bool), or compare two aranges.",
)
def causal_as_floats(length, device=None):
    return torch.ones(length, length, device=device).tril()


@mistake(
    "causal_mask",
    "M17c",
    "a mask to be added",
    "The mask holds 0 and -inf, to be added to scores; asked for are True and False.",
    "Hand over True where a query may look; attention itself fills in -inf.",
)
def causal_to_add(length, device=None):
    return torch.full((length, length), float("-inf"), device=device).triu(1)


@mistake(
    "causal_mask",
    "M10",
    "an axis too many",
    "The mask is [1, T, T]; asked for is one table, [T, T].",
    "Leave out the axes in front: broadcasting adds them where they are needed.",
)
def causal_with_axis(length, device=None):
    return torch.ones(1, length, length, dtype=torch.bool, device=device).tril()


@mistake(
    "causal_mask",
    "M19",
    "device is not used",
    "The mask is always made on the CPU: beside a model on a GPU it raises an error.",
    "Pass device=device to the function that makes the tensor.",
)
def causal_on_the_cpu(length, device=None):
    return torch.ones(length, length, dtype=torch.bool).tril()


# decoder_mask


@mistake(
    "decoder_mask",
    "M11",
    "or in place of and",
    "A key is seen where ONE of the masks allows it: words of the future and padding of the past.",
    "Both masks must allow it: &.",
)
def either(ids, pad_id):
    return causal_mask(ids.size(1), ids.device) | padding_mask(ids, pad_id)


@mistake(
    "decoder_mask",
    "M11b",
    "masks added",
    "+ on booleans is or: a key is seen where ONE of the masks allows it, and + of numbers is 2.",
    "Both masks must allow it: &.",
)
def added(ids, pad_id):
    return causal_mask(ids.size(1), ids.device).long() + padding_mask(ids, pad_id).long()


@mistake(
    "decoder_mask",
    "M0a",
    "the future is not hidden",
    "Only padding is hidden: a position sees the words it should predict.",
    "Combine padding_mask with causal_mask(ids.size(1)).",
)
def padding_alone(ids, pad_id):
    return padding_mask(ids, pad_id)


@mistake(
    "decoder_mask",
    "M0b",
    "padding is not hidden",
    "Only the future is hidden: padding is seen like a word.",
    "Combine causal_mask with padding_mask(ids, pad_id).",
)
def causal_alone(ids, pad_id):
    return causal_mask(ids.size(1), ids.device)


@mistake(
    "decoder_mask",
    "M0c",
    "padding is not hidden",
    "The shape is right, but only the future is hidden: padding is seen like a word.",
    "Combine causal_mask with padding_mask(ids, pad_id).",
)
def causal_stretched(ids, pad_id):
    return causal_mask(ids.size(1), ids.device).expand(ids.size(0), 1, -1, -1)


@mistake(
    "decoder_mask",
    "M1",
    "mask upside down",
    "True stands where nobody may look: at the future and at padding.",
    "True means may look; nothing is to be turned over with ~ here.",
)
def decoder_inverted(ids, pad_id):
    return ~(causal_mask(ids.size(1), ids.device) & padding_mask(ids, pad_id))


@mistake(
    "decoder_mask",
    "M1b",
    "padding upside down",
    "The future is hidden, but of the past only padding is seen, and no word.",
    "padding_mask is True at words already: no ~ before it.",
)
def padding_upside_down(ids, pad_id):
    return causal_mask(ids.size(1), ids.device) & ~padding_mask(ids, pad_id)


@mistake(
    "decoder_mask",
    "M1c",
    "causal upside down",
    "Only words of the future are seen: the causal mask is turned over.",
    "causal_mask is True at the past already: no ~ before it.",
)
def causal_upside_down(ids, pad_id):
    return ~causal_mask(ids.size(1), ids.device) & padding_mask(ids, pad_id)


@mistake(
    "decoder_mask",
    "M8",
    "triangle flipped",
    "A position sees itself and what comes after it, not what came before.",
    "Row t is True up to column t: causal_mask as it is, without a transpose.",
)
def decoder_flipped(ids, pad_id):
    return causal_mask(ids.size(1), ids.device).T & padding_mask(ids, pad_id)


@mistake(
    "decoder_mask",
    "M6",
    "cannot see itself",
    "The diagonal is False: no position sees itself, and the first one sees nothing at all.",
    "causal_mask(length) has the diagonal; keep it.",
)
def decoder_without_diagonal(ids, pad_id):
    return causal_mask(ids.size(1), ids.device).tril(-1) & padding_mask(ids, pad_id)


@mistake(
    "decoder_mask",
    "M7",
    "sees one token of the future",
    "Each position also sees the one after it, which is the very word it should predict.",
    "The causal mask ends at the diagonal.",
)
def decoder_with_next(ids, pad_id):
    past = torch.ones(ids.size(1), ids.size(1), dtype=torch.bool, device=ids.device).tril(1)
    return past & padding_mask(ids, pad_id)


@mistake(
    "decoder_mask",
    "M9",
    "padding on the query axis",
    "Rows of padding are blank, but padded keys stay visible: the padding lies on the wrong axis.",
    "padding_mask is [B, 1, 1, T] as it is: its last axis is the keys. Do not transpose it.",
)
def padding_rows(ids, pad_id):
    return causal_mask(ids.size(1), ids.device) & padding_mask(ids, pad_id).transpose(-2, -1)


@mistake(
    "decoder_mask",
    "M9b",
    "rows of padding are blank",
    "Padding sees nothing at all; it is to be hidden as a key only.",
    "Leave the queries alone: what padding sees does no harm, since nobody sees padding.",
)
def padding_rows_and_columns(ids, pad_id):
    keys = padding_mask(ids, pad_id)
    return causal_mask(ids.size(1), ids.device) & keys & keys.transpose(-2, -1)


@mistake(
    "decoder_mask",
    "M14",
    "padding sees itself",
    "The diagonal is True even at padding, perhaps against NaN; padding is never seen.",
    "An empty row is no harm: attention gives zeros for it.",
)
def diagonal_kept(ids, pad_id):
    itself = torch.eye(ids.size(1), dtype=torch.bool, device=ids.device)
    return (causal_mask(ids.size(1), ids.device) & padding_mask(ids, pad_id)) | itself


@mistake(
    "decoder_mask",
    "M10",
    "no axis for the heads",
    "The mask is [B, T, T]; lined up with [B, H, T, T], its B meets the heads.",
    "Keep the axis of length 1 that padding_mask has for the heads: [B, 1, T, T].",
)
def decoder_without_heads(ids, pad_id):
    return causal_mask(ids.size(1), ids.device) & (ids != pad_id).unsqueeze(1)


@mistake(
    "decoder_mask",
    "M17",
    "a mask of numbers",
    "The mask holds ones and zeros; asked for are True and False.",
    "& of two boolean masks is boolean already.",
)
def decoder_as_floats(ids, pad_id):
    return (causal_mask(ids.size(1), ids.device) & padding_mask(ids, pad_id)).float()


@mistake(
    "decoder_mask",
    "M18",
    "pad_id is not used",
    "Padding is taken to be 0, whatever pad_id says.",
    "Pass pad_id on to padding_mask.",
)
def decoder_pads_with_zero(ids, pad_id):
    return causal_mask(ids.size(1), ids.device) & padding_mask(ids, 0)


@mistake(
    "decoder_mask",
    "M19",
    "the causal half stays on the CPU",
    "The causal mask is made on the CPU: beside ids on a GPU, & raises an error.",
    "causal_mask(ids.size(1), ids.device)",
)
def decoder_on_the_cpu(ids, pad_id):
    return causal_mask(ids.size(1)) & padding_mask(ids, pad_id)
