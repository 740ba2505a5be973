"""What may be said between the judge and a learner's process, and all that may not."""

import json
import math
import resource
import socket
import threading
import time
from enum import IntEnum

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from autograder.oracle import wire
from autograder.oracle.wire import DTYPES, HEADER, Handle, WireError

QUIET = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
PAGE = resource.getpagesize()


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def sent(value):
    """A value after its journey."""
    wire.encode(value)  # may raise, and better here than in the thread
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=wire.send, args=(ours, value))
        sender.start()
        try:
            return wire.recv(theirs, time.monotonic() + 10)
        finally:
            sender.join()


def frame(node, blob=b""):
    """Bytes as a learner's process could write them."""
    text = node if isinstance(node, bytes) else json.dumps(node).encode()
    return HEADER.pack(len(text), len(blob)) + text + blob


def received(data):
    """What comes out of these bytes when nothing follows them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 << 20)
        ours.settimeout(5)
        ours.sendall(data)
        ours.close()
        return wire.recv(theirs, time.monotonic() + 5)


def same(a, b):
    if isinstance(a, torch.Tensor):
        alike = isinstance(b, torch.Tensor) and (a.dtype, a.shape, a.device) == (
            *(b.dtype, b.shape, b.device),
        )
        return alike and (a.is_meta or as_bytes(a) == as_bytes(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def as_bytes(tensor):
    return (
        tensor.detach()
        .clone(memory_format=torch.contiguous_format)
        .reshape(-1)
        .view(torch.uint8)
        .numpy()
        .tobytes()
    )


@st.composite
def tensors(draw):
    """A small tensor of any dtype: random bits, transposed, strided, expanded or on meta."""
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    bits = torch.randint(0, 256, (*shape, dtype.itemsize), dtype=torch.uint8)
    tensor = bits.ne(7)[..., 0] if dtype == torch.bool else bits.view(dtype).reshape(shape)
    view = draw(st.sampled_from(["none", "transposed", "strided", "expanded", "grad", "meta"]))
    match view:
        case "transposed":
            return tensor.movedim(0, -1) if shape else tensor
        case "strided":
            return tensor[..., ::2] if shape else tensor
        case "expanded":
            return tensor.unsqueeze(0).expand(3, *shape)
        case "grad" if dtype.is_floating_point:
            return tensor.requires_grad_()
        case "meta":
            return tensor.to("meta")
    return tensor


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.builds(Handle, st.integers(0, 1 << 40)),
    st.sampled_from(list(DTYPES.values())),
    st.sampled_from([torch.device("cpu"), torch.device("meta")]),
    st.lists(st.integers(0, 100), max_size=4).map(torch.Size),
    tensors(),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=8), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(QUIET, max_examples=500)
@given(VALUES)
def test_what_is_sent_arrives(value):
    """Any value of the channel comes out as it went in: type, order, dtype, bits."""
    assert same(sent(value), value)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_dtype_arrives(dtype):
    """Values, shape and dtype of a tensor survive, empty and without dimensions too."""
    for shape in [(), (0,), (3,), (2, 0, 4), (2, 3, 4)]:
        tensor = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
        assert same(sent(tensor), tensor)


def test_tensors_beside_each_other_keep_apart():
    """A tensor of odd length moves no other; to change one that arrived changes no other."""
    tensors = [torch.ones(3, dtype=torch.int8), torch.ones(2, dtype=torch.float64), torch.ones(1)]

    first, second, third = sent(tensors)
    first.zero_()

    assert same([second, third], tensors[1:])


def test_a_subclass_arrives_as_a_plain_tensor():
    """Parameters and learners' own kinds of tensors lose everything but their data."""

    class Liar(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *_, **__):
            return True

    data = torch.tensor([1.0, 2.0])

    for tensor in (nn.Parameter(data), data.as_subclass(Liar)):
        arrived = sent(tensor)
        assert type(arrived) is torch.Tensor and not arrived.requires_grad
        assert same(arrived, data)


def test_a_negated_view_arrives_negated():
    """What torch notes down as a bit for later is carried out."""
    z = torch.complex(torch.ones(2), torch.ones(2))

    assert same(sent(z.conj().imag), torch.tensor([-1.0, -1.0]))


def test_one_number_of_a_strided_row_arrives():
    """Torch calls a single number contiguous whatever its stride is."""
    assert same(sent(torch.arange(2.0)[::2]), torch.tensor([0.0]))


def test_subclasses_of_numbers_arrive_as_numbers():
    """An enum is its integer, numpy's float a float."""

    class Few(IntEnum):
        ONE = 1

    assert same(sent([Few.ONE, torch.zeros(1, dtype=torch.float64).numpy()[0]]), [1, 0.0])


def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**12),
        torch.zeros(1, 1, 1).expand(10**6, 10**6, 10**6),
        torch.zeros(1).expand(1 << 31),
        torch.zeros(1, dtype=torch.int8).expand((256 << 20) + 1),
        torch.empty(1 << 33, device="meta"),
        torch.empty((0, 1 << 40)),
    ],
    ids=["1e12", "1e18", "8 GB", "one byte more", "meta", "empty and wide"],
)
def test_a_giant_is_refused_before_it_is_made(tensor, ends):
    """A view of one number that says it is a terabyte costs nothing, and the channel goes on."""
    before = rss()

    with pytest.raises(WireError):
        wire.send(ends[0], tensor)

    assert rss() - before < 32 << 20
    wire.send(ends[0], "still here")
    assert wire.recv(ends[1]) == "still here"


def test_tensors_are_counted_together():
    """Many tensors, each small enough, are too large as one message."""
    part = torch.zeros(1, dtype=torch.uint8).expand(100 << 20)

    with pytest.raises(WireError, match="too large"):
        wire.encode([part[:0], *[part.expand(2, -1)] * 2])


def deep(depth, wrap=lambda inner: [inner]):
    value = None
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        {1: "a"},
        1j,
        1 << 63,
        -(1 << 63) - 1,
        "x" * (wire.TEXT + 1),
        "\ud800",
        b"x" * (wire.BYTES + 1),
        deep(wire.DEPTH + 1),
        deep(5000),
        [None] * wire.ITEMS,
        ["x" * wire.TEXT] * 5,
        torch.complex64,
        torch.device("cuda"),
        torch.zeros(2, dtype=torch.complex64),
        torch.eye(2).to_sparse(),
        torch.Size([1 << 33]),
        torch.zeros([1] * (wire.DIMS + 1)),
        lambda: None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_channel_has_no_words_for_is_refused(value):
    """Only the listed kinds of values are sent, and none of them without a bound."""
    with pytest.raises(WireError):
        wire.encode(value)


def test_a_list_within_itself_is_refused():
    """Depth is bounded, so that this ends."""
    endless = []
    endless.append(endless)

    with pytest.raises(WireError):
        wire.encode(endless)


MALICIOUS = {
    "not JSON": b"{",
    "not text": b"\xff\xff",
    "nothing": b"",
    "two keys": {"tuple": [], "size": []},
    "no key": {},
    "unknown tag": {"pickle": "gASVKAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOU"},
    "a bare NaN": b"NaN",
    "a bare infinity": b"-Infinity",
    "1e999": b"1e999",
    "a huge integer": b"9" * 4000,
    "a huger integer": b"9" * 100_000,
    "deep": b"[" * 18 + b"]" * 18,
    "very deep": b"[" * 100_000 + b"]" * 100_000,
    "unclosed and deep": b'{"tuple":' * 50_000,
    "many": b"[" + b"0," * 20_000 + b"0]",
    "half a character": b'"\\ud800"',
    "a long string": b'"' + b"x" * (wire.TEXT + 1) + b'"',
    "a key twice": {"dict": [["a", 1], ["a", 2]]},
    "a key that is a list": {"dict": [[["a"], 1]]},
    "a pair of three": {"dict": [["a", 1, 2]]},
    "a dict that is none": {"dict": {"a": 1}},
    "a tuple that is none": {"tuple": "ab"},
    "a float that is none": {"float": "0x1p3"},
    "a float of lists": {"float": [[]]},
    "not base64": {"bytes": "???"},
    "bytes of a number": {"bytes": 3},
    "a tensor of nothing": {"tensor": ["float32", [1]]},
    "a tensor without a shape": {"tensor": ["float32"]},
    "an object": {"tensor": ["object", [1]]},
    "a dtype of torch's": {"dtype": "quint8"},
    "a dtype that is a list": {"dtype": ["float32"]},
    "a negative size": {"tensor": ["float32", [-1]]},
    "sizes that multiply to few": {"tensor": ["float32", [1 << 32, 1 << 32, 1 << 32]]},
    "a size of true": {"tensor": ["float32", [True]]},
    "a size of 1.0": {"tensor": ["float32", [1.0]]},
    "an empty giant": {"tensor": ["float32", [0, 1 << 62]]},
    "a meta giant": {"meta": ["float32", [1 << 62]]},
    "many dimensions": {"meta": ["float32", [1] * 100]},
    "a size that is none": {"size": [-1]},
    "a device elsewhere": {"device": "cuda:0"},
    "a device that is a list": {"device": []},
    "a handle of text": {"handle": "1"},
    "a handle of true": {"handle": True},
    "a long handle": {"handle": 1 << 70},
}


@pytest.mark.parametrize("node", MALICIOUS.values(), ids=MALICIOUS)
def test_a_false_frame_is_refused(node):
    """Whatever the JSON says that it should not, the answer is one kind of error."""
    with pytest.raises(WireError):
        received(frame(node))


def test_bytes_that_nothing_asks_for_are_refused():
    """A blob is exactly its tensors."""
    with pytest.raises(WireError, match="belong to no tensor"):
        received(frame({"tensor": ["int8", [1]]}, b"12"))


def test_a_bool_is_zero_or_one():
    """A byte of 255 is true, and adds up as true does."""
    arrived = received(frame({"tensor": ["bool", [3]]}, b"\xff\x02\x00"))

    assert arrived.tolist() == [True, True, False]
    assert arrived.view(torch.uint8).tolist() == [1, 1, 0]


@pytest.mark.parametrize("lengths", [(1 << 21, 0), (2, 1 << 29), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_a_header_that_promises_too_much_is_refused(lengths):
    """Four gigabytes are not waited for."""
    with pytest.raises(WireError, match="too large"):
        received(HEADER.pack(*lengths))


def test_a_promise_is_not_paid_in_advance():
    """Memory is touched as bytes arrive: who announces 256 MB and sends none costs nothing."""
    texts = frame("x")[HEADER.size :]
    taken = []

    class Silent:
        """A connection that has a header and a text, and then measures."""

        data = HEADER.pack(len(texts), wire.BLOB_BYTES) + texts

        def settimeout(self, seconds): ...

        def recv_into(self, view):
            if not self.data:
                taken.append(rss())
                return 0
            size = min(len(view), len(self.data))
            view[:size], self.data = self.data[:size], self.data[size:]
            return size

    before = rss()

    with pytest.raises(EOFError):
        wire.recv(Silent())

    assert taken[0] - before < 32 << 20


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, -1])
def test_half_a_frame_is_an_end(cut):
    """A process that dies in the middle of a word has said nothing."""
    with pytest.raises(EOFError):
        received(frame({"tensor": ["int8", [2]]}, b"12")[:cut])


def test_the_deadline_holds_against_silence(ends):
    """Nothing arrives: TimeoutError, in time."""
    with pytest.raises(TimeoutError):
        wire.recv(ends[0], time.monotonic() + 0.05)


def test_the_deadline_holds_against_drops(ends):
    """A byte now and then does not buy more time: the deadline is a moment, not a pause."""
    ours, theirs = ends
    data = frame("x" * 1000)

    def drip():
        for byte in data:
            time.sleep(0.02)
            try:
                theirs.sendall(bytes([byte]))
            except OSError:
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        wire.recv(ours, start + 0.3)
    took = time.monotonic() - start
    ours.close()
    dripping.join()

    assert took < 2


def test_the_deadline_holds_for_sending(ends):
    """A process that does not read cannot keep the judge waiting."""
    with pytest.raises(TimeoutError):
        wire.send(ends[0], torch.zeros(1 << 22), time.monotonic() + 0.1)


def test_a_deadline_that_has_passed_is_one(ends):
    """Even when the bytes are there."""
    wire.send(ends[0], 1)

    with pytest.raises(TimeoutError):
        wire.recv(ends[1], time.monotonic() - 1)


def test_sending_to_nobody_is_an_end(ends):
    """The learner's process is gone: EOFError, like in reading."""
    ends[1].close()

    with pytest.raises(EOFError):
        wire.send(ends[0], torch.zeros(1 << 22))


def outcome(data):
    """Receive it; only the channel's own errors may come out. True: it was a value."""
    try:
        received(data)
    except (WireError, EOFError, TimeoutError):
        return False
    return True


@settings(QUIET, max_examples=3000)
@given(st.binary(max_size=200), st.binary(max_size=200), st.sampled_from(["raw", "one", "two"]))
def test_fuzz_random_bytes(first, second, framed):
    """Noise, with and without a header that fits, ends in the channel's own errors."""
    outcome({"raw": first, "one": frame(first), "two": frame(first, second)}[framed])


@st.composite
def damaged(draw):
    """A valid frame with some bytes replaced, cut out or doubled; its lengths may still fit."""
    text, chunks = wire.encode(draw(VALUES))
    blob = b"".join(chunks)
    text, blob = draw(mutated(text)), draw(mutated(blob))
    data = frame(text, blob)
    return draw(mutated(data)) if draw(st.integers(0, 3)) == 0 else data


@st.composite
def mutated(draw, data):
    data = bytearray(data)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 4)))
        words = [b"", b"9", b"-", b"[", b"]", b'"', b"{", b"1e999", b"NaN", b'{"tuple":', b"\xff"]
        words += [bytes(data[start:]), draw(st.binary(max_size=4))]
        data[start:end] = draw(st.sampled_from(words))
    return bytes(data)


KINDS = st.sampled_from(
    "float bytes tuple dict tensor meta size dtype device handle list pickle".split()
)
NODES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.sampled_from([*DTYPES, "cpu", "nan", "inf"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KINDS, inner, min_size=1, max_size=1),
        st.tuples(KINDS, st.sampled_from(list(DTYPES)), st.lists(st.integers(-1, 1 << 40))).map(
            lambda of: {of[0]: [of[1], of[2]]}
        ),
    ),
    max_leaves=10,
)


def test_fuzz_within_memory():
    """Ten thousand frames: nothing but the channel's errors, and no memory that stays."""
    seen = {"damaged": [0, 0], "nodes": [0, 0]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(QUIET, max_examples=5000)
    @given(damaged())
    def with_damage(data):
        seen["damaged"][outcome(data)] += 1

    @settings(QUIET, max_examples=3000)
    @given(NODES, st.binary(max_size=64))
    def with_nodes(node, blob):
        seen["nodes"][outcome(frame(node, blob))] += 1

    with_damage()
    with_nodes()

    assert sum(map(sum, seen.values())) >= 8000  # and test_fuzz_random_bytes's 3,000
    assert min(seen["damaged"]) > 200 and min(seen["nodes"]) > 20  # both ways out are taken
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 128 << 10  # in KiB
