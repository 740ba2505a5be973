"""The only words between the judge and a learner's process: plain values and tensors, bounded.

    send(connection, {"call": Handle(3), "with": [torch.ones(2, 3), 1e-9, None]}, deadline)
    value = recv(connection, deadline)

A frame is two lengths (JSON, blob; four bytes each), a line of JSON, and the tensors' bytes one
after the other. JSON says of itself what it can; the rest is an object with one key, its tag:

    {"float": "nan"}   {"bytes": base64}   {"tuple": [...]}   {"dict": [[key, value], ...]}
    {"tensor": ["float32", [2, 3]]}        {"meta": ["float32", [2, 3]]}   {"size": [2, 3]}
    {"dtype": "int64"}                     {"device": "cpu"}               {"handle": 3}

Nothing that arrives is executed, unpickled or looked up: what comes out of `recv` is built here
out of Python's own types and fresh tensors, or it is a WireError.
"""

import base64
import json
import math
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

Buffer = bytes | bytearray | memoryview

JSON_BYTES = 1 << 20
BLOB_BYTES = 256 << 20
TOGETHER = 1 << 17  # a message up to here is sent at once: each piece would wake the other side
DEPTH = 16  # of lists in lists; what a part takes or gives has three
ITEMS = 10_000  # values in one message; a model's state_dict has some hundreds
TEXT = 1 << 18  # characters of one string
BYTES = 1 << 16  # of one bytes value
DIMS = 16
FEW = 1 << 12  # numbers
ELEMENTS = 1 << 32  # of one tensor, those of no size counted as one: on "meta" nothing else bounds
INTEGER = 1 << 63
ALIGNMENT = 8  # a tensor starts at a multiple of its elements' size

HEADER = struct.Struct("<II")
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
DEVICES = ("cpu", "meta")


class WireError(Exception):
    """A message that cannot be sent, or that should never have been."""


@dataclass(frozen=True)
class Handle:
    """Something that lives on the other side: a module, a graph, a callback."""

    number: int


class Connection(Protocol):
    """What is needed of a socket."""

    def settimeout(self, seconds: float | None, /) -> None: ...
    def sendall(self, data: Buffer, /) -> None: ...
    def recv_into(self, buffer: memoryview, /) -> int: ...


def send(connection: Connection, value: Any, deadline: float | None = None) -> None:
    """Send one value. Past the deadline (of time.monotonic): TimeoutError; nobody there: EOFError.

    A value that is refused is refused before a byte is sent: the connection can still be used.
    """
    text, chunks = encode(value)
    size = sum(map(len, chunks))
    parts = [HEADER.pack(len(text), size), text, *chunks]
    if size <= TOGETHER:
        parts = [b"".join(parts)]
    try:
        for chunk in parts:
            connection.settimeout(_left(deadline))
            connection.sendall(chunk)
    except (BrokenPipeError, ConnectionError) as gone:
        raise EOFError("the other side is gone") from gone


def recv(connection: Connection, deadline: float | None = None, most: int = BLOB_BYTES) -> Any:
    """The next value. Past the deadline: TimeoutError; nobody there: EOFError; else WireError.

    Its tensors may have `most` bytes together.
    """
    _, text, blob = _frame(connection, deadline, most)
    return decode(text, blob)


def frame(connection: Connection, deadline: float | None, most: int) -> bytes:
    """The next message as it stands, unread; the same bounds and errors as `recv`."""
    return b"".join(_frame(connection, deadline, most))


def encode(value: Any) -> tuple[bytes, list[bytes | memoryview]]:
    """A value as JSON and the chunks of the blob that belongs to it."""
    writer = _Writer()
    node = writer.node(value)
    try:
        text = _ENCODER.encode(node).encode()
    except ValueError as error:
        raise WireError(str(error)) from error
    if len(text) > JSON_BYTES:
        raise WireError(f"{len(text):,} bytes of JSON are too many")
    return text, writer.chunks


def decode(text: Buffer, blob: Buffer) -> Any:
    """The value of a message. Its tensors share the blob's memory, and nothing else does."""
    try:
        node = _DECODER.decode(str(text, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError("not JSON") from error
    reader = _Reader(blob)
    value = reader.value(node)
    if reader.position < len(blob):
        raise WireError("bytes that belong to no tensor")
    return value


@dataclass
class _Writer:
    """Turns values into nodes, and counts what it has written."""

    chunks: list[bytes | memoryview] = field(default_factory=list)
    position: int = 0
    items: int = 0

    def node(self, value: Any, depth: int = 0) -> Any:
        self.items += 1
        if depth > DEPTH or self.items > ITEMS:
            raise _unbounded(depth)
        kind = type(value)  # the frequent ones first, the rest below
        if value is None or kind is bool:
            return value
        if kind is int:
            return _integer(value)
        if kind is str:
            return _string(value)
        if kind is list:
            return [self.node(each, depth + 1) for each in value]
        if kind is dict:
            return {"dict": [[_key(k), self.node(v, depth + 1)] for k, v in value.items()]}
        if isinstance(value, Tensor):
            return self.tensor(value)
        match value:
            case list():
                return self.nodes(value, depth)
            case int():
                return _integer(int(value))
            case float():
                return float(value) if math.isfinite(value) else {"float": repr(float(value))}
            case str():
                return _string(str(value))
            case bytes():
                return {"bytes": base64.b64encode(_short(value)).decode()}
            case torch.Size():
                return {"size": _shape(list(value))}
            case tuple():
                return {"tuple": self.nodes(value, depth)}
            case dict():
                return {"dict": [[_key(k), self.node(v, depth + 1)] for k, v in value.items()]}
            case torch.dtype() if value in NAMES:
                return {"dtype": NAMES[value]}
            case torch.device() if str(value) in DEVICES:
                return {"device": str(value)}
            case Handle():
                return {"handle": _integer(value.number)}
        raise WireError(f"{type(value).__name__} cannot be sent")

    def nodes(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self.node(each, depth + 1) for each in values]

    def tensor(self, tensor: Tensor) -> dict[str, Any]:
        """A tensor as plain contiguous data, whatever it is a view of or a subclass of."""
        try:
            with torch._C.DisableTorchFunctionSubclass():
                return self._plain(tensor.detach())
        except (RuntimeError, TypeError) as error:
            raise WireError(f"this {type(tensor).__name__} has no plain data: {error}") from error

    def _plain(self, tensor: Tensor) -> dict[str, Any]:
        if tensor.dtype not in NAMES:
            raise WireError(f"a tensor of {tensor.dtype} cannot be sent")
        device = tensor.device.type
        if tensor.layout != torch.strided or device not in DEVICES:
            raise WireError(f"a {tensor.layout} tensor on {tensor.device} cannot be sent")
        shape = _shape(list(tensor.shape))
        described = [NAMES[tensor.dtype], shape]
        if device == "meta":
            return {"meta": described}
        size = tensor.numel() * tensor.itemsize
        start = _aligned(self.position)
        if start + size > BLOB_BYTES:  # asked before `contiguous` makes of a view what it shows
            raise WireError(f"tensors of {start + size:,} bytes are too large")
        if size:
            if start > self.position:
                self.chunks.append(bytes(start - self.position))
            self.chunks.append(_bytes_of(tensor.resolve_neg()))
            self.position = start + size
        return {"tensor": described}


def _bytes_of(tensor: Tensor) -> bytes | memoryview:
    """The numbers one after the other; few are copied, which is the quicker way."""
    if tensor.numel() <= FEW and tensor.dtype != torch.bfloat16:  # which numpy has not
        return tensor.numpy().tobytes()
    flat = tensor.contiguous().as_strided([tensor.numel()], [1])
    return memoryview(flat.view(torch.uint8).numpy().data)


@dataclass
class _Reader:
    """Turns nodes into values; a tensor takes the blob's next bytes, so that none are shared."""

    blob: Buffer
    position: int = 0
    items: int = 0

    def value(self, node: Any, depth: int = 0) -> Any:
        self.items += 1
        if depth > DEPTH or self.items > ITEMS:
            raise _unbounded(depth)
        kind = type(node)
        if node is None or kind is bool:
            return node
        if kind is int:
            return _integer(node)
        if kind is str:
            return _string(node)
        if kind is list:
            return [self.value(each, depth + 1) for each in node]
        if kind is dict and len(node) == 1:
            [(tag, content)] = node.items()
            return self.tagged(tag, content, depth)
        if kind is float and math.isfinite(node):  # "1e999" is written as a number and is none
            return node
        raise WireError("a node that means nothing")

    def values(self, nodes: Any, depth: int) -> list[Any]:
        return [self.value(each, depth + 1) for each in _list(nodes)]

    def tagged(self, tag: str, content: Any, depth: int) -> Any:
        match tag:
            case "tuple":
                return tuple(self.values(content, depth))
            case "dict":
                return self.dictionary(content, depth)
            case "tensor" | "meta":
                return self.tensor(*_list(content, 2), meta=tag == "meta")
            case "size":
                return torch.Size(_shape(content))
            case "float" if content in ("nan", "inf", "-inf"):
                return float(content)
            case "bytes" if isinstance(content, str):
                return _base64(content)
            case "dtype":
                return _dtype(content)
            case "device" if content in DEVICES:
                return torch.device(content)
            case "handle" if type(content) is int:
                return Handle(_integer(content))
        raise WireError("a tag that means nothing")

    def dictionary(self, pairs: Any, depth: int) -> dict[str, Any]:
        read = [_list(pair, 2) for pair in _list(pairs)]
        result = {_key(key): self.value(node, depth + 1) for key, node in read}
        if len(result) < len(read):
            raise WireError("a key that stands twice")
        return result

    def tensor(self, name: Any, shape: Any, meta: bool) -> Tensor:
        dtype, shape = _dtype(name), _shape(shape)
        if meta:
            return torch.empty(shape, dtype=dtype, device="meta")
        count = math.prod(shape)
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        start = _aligned(self.position)
        end = start + count * dtype.itemsize
        if end > len(self.blob):
            raise WireError("a tensor that reaches past the blob")
        self.position = end
        if dtype == torch.bool:  # any byte may have been sent; a bool is 0 or 1
            return self._from_blob(torch.uint8, count, start).ne(0).reshape(shape)
        return self._from_blob(dtype, count, start).reshape(shape)

    def _from_blob(self, dtype: torch.dtype, count: int, start: int) -> Tensor:
        return torch.frombuffer(self.blob, dtype=dtype, count=count, offset=start)


def _frame(
    connection: Connection, deadline: float | None, most: int
) -> tuple[memoryview, memoryview, memoryview]:
    """Header, text and blob."""
    header, _ = _exactly(connection, HEADER.size, 0, deadline)
    text_bytes, blob_bytes = HEADER.unpack(header)
    if text_bytes > JSON_BYTES or blob_bytes > most:
        raise WireError(f"a message of {text_bytes:,} + {blob_bytes:,} bytes is too large")
    return header, *_exactly(connection, text_bytes, blob_bytes, deadline)


def _exactly(
    connection: Connection, size: int, more: int, deadline: float | None
) -> tuple[memoryview, memoryview]:
    """The next bytes, all of them, in two pieces, of which the second starts aligned. Memory that
    nothing arrives for is never touched."""
    start = -size % ALIGNMENT
    data = memoryview(np.empty(start + size + more, np.uint8).data)[start:]
    rest = data
    while rest:
        connection.settimeout(_left(deadline))
        try:
            got = connection.recv_into(rest)
        except ConnectionError as gone:
            raise EOFError("the other side is gone") from gone
        if not got:
            raise EOFError("the other side is gone")
        rest = rest[got:]
    return data[:size], data[size:]


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def _unbounded(depth: int) -> WireError:
    if depth > DEPTH:
        return WireError(f"lists in lists, deeper than {DEPTH}")
    return WireError(f"more than {ITEMS:,} values in one message")


def _integer(number: int) -> int:
    if not -INTEGER <= number < INTEGER:
        raise WireError("an integer of more than 64 bits")
    return number


def _string(text: str) -> str:
    """A string that can be printed and stored: short, and no half of a character."""
    if len(text) > TEXT:
        raise WireError(f"a string of {len(text):,} characters is too long")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise WireError("a string with half a character") from error
    return text


def _key(key: Any) -> str:
    if type(key) is not str:
        if not isinstance(key, str):
            raise WireError(f"a key that is no string but {type(key).__name__}")
        key = str(key)
    return _string(key)


def _short(data: bytes) -> bytes:
    if len(data) > BYTES:
        raise WireError(f"{len(data):,} bytes outside of a tensor are too many")
    return data


def _base64(text: str) -> bytes:
    try:
        return _short(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise WireError("not base64") from error


def _shape(sizes: Any) -> list[int]:
    if len(_list(sizes)) > DIMS:
        raise WireError("not a tensor's shape")
    count = 1
    for size in sizes:
        if type(size) is not int or size < 0:
            raise WireError("not a tensor's shape")
        count *= size or 1
    if count > ELEMENTS:
        raise WireError(f"a tensor of more than {ELEMENTS:,} elements")
    return sizes


def _dtype(name: Any) -> torch.dtype:
    if not isinstance(name, str) or name not in DTYPES:
        raise WireError("a dtype that cannot be sent")
    return DTYPES[name]


def _list(node: Any, length: int | None = None) -> list[Any]:
    if not isinstance(node, list) or length not in (None, len(node)):
        raise WireError("not the list that it should be")
    return node


def _refuse_constant(name: str) -> Callable[..., Any]:
    raise ValueError(f"{name} is no JSON")


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"), check_circular=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
