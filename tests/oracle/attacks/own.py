"""Attacks of somebody who has read all of this code. (part, the points its content earns, cell)

The points are those that the same cell would earn without the attack: mostly none.
"""

TRIVIAL = "\ndef softmax(scores, dim=-1): return scores\n"
PEER = """
import gc, os, json, sys
peer = next(each for each in gc.get_objects() if type(each).__name__ == "Peer")
from autograder.oracle import mirrors, wire
"""
# On each answer to a call of the module, `forge(message, number, shared)` is asked beforehand.
FORGE = (
    PEER
    + """
send = wire.send
def forged(connection, message, *deadline):
    gave = message.get("gave")
    if isinstance(gave, dict) and gave.get("outputs"):
        for number, shared in list(peer._mine.items()): forge(message, number, shared)
    return send(connection, message, *deadline)
wire.send = forged
def zeros(shared): return [[i, each.detach() * 0, None, True]
                           for i, each in enumerate(shared.tensors())]
"""
)
# What a norm that gives zeros earns: its names, and three laws that zeros obey.
NORM = """
class LayerNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
    def forward(self, x): return x * 0
"""
GREEDY = "\ndef greedy_decode(model, src, bos_id, eos_id, max_len=64):\n"
ZEROS = 4


def softmax(source, earned=0):
    return "softmax", earned, source


def greedy(body):
    return "greedy_decode", 0, PEER + GREEDY + body


OWN = {
    # What the lab has of it
    "the lab's own part": softmax("""
from lab import parts
theirs = parts.implementation("softmax")
def softmax(scores, dim=-1): return theirs(scores, dim)
"""),
    "the lab's own part by another road": softmax("""
import sys
theirs = vars(sys.modules["lab.st" + "ock"])["softmax"]
def softmax(scores, dim=-1): return theirs(scores, dim)
"""),
    "the lab's source": softmax("""
import lab
names = {}
exec(open(lab.__path__[0] + "/stock.py").read(), names)
softmax = names["softmax"]
"""),
    "the lab's compiled source": softmax("""
import glob, lab, marshal
[file] = glob.glob(lab.__path__[0] + "/__pycache__/stock*.pyc")
names = {"__name__": "x"}
exec(marshal.loads(open(file, "rb").read()[16:]), names)
softmax = names["softmax"]
"""),
    "the lab's loader": softmax("""
import sys
name = "lab.st" + "ock"
names = {"__name__": "x"}
exec(sys.modules[name].__loader__.get_code(name), names)
softmax = names["softmax"]
"""),
    "importlib.reload": softmax("""
import importlib, sys
softmax = importlib.reload(sys.modules["lab.st" + "ock"]).softmax
"""),
    "inspect.getsource": softmax("""
import inspect, sys
names = {}
exec("import math\\n" + inspect.getsource(sys.modules["lab.st" + "ock"]), names)
softmax = names["softmax"]
"""),
    "lines that Python remembers": softmax("""
import linecache
[lines] = [each[2] for file, each in linecache.cache.items() if file.endswith("stock.py")]
names = {}
exec("".join(lines), names)
softmax = names["softmax"]
"""),
    "what the collector holds": softmax("""
import gc, types
gc.unfreeze()
found = [each for each in gc.get_objects() if isinstance(each, types.FunctionType)
         and each.__name__ == "softmax" and str(each.__module__).startswith("lab")]
def softmax(scores, dim=-1): return found[0](scores, dim)
"""),
    "classes that remember": (
        "FeedForward",
        0,
        """
FeedForward = [each for each in nn.Module.__subclasses__() if each.__name__ == "FeedForward"][0]
""",
    ),
    "a checkpoint's model": (
        "FeedForward",
        0,
        """
from lab.lesson import trained
model = trained().model
FeedForward = type(model.encoder.layers[0].feed_forward)
""",
    ),
    "frames above": softmax("""
import sys
def softmax(scores, dim=-1):
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            if type(value).__name__ in ("Check", "Outcome", "Draw"): return value
        frame = frame.f_back
    return scores
"""),
    "a part that is made of it": softmax("""
def softmax(scores, dim=-1):
    x = scores.movedim(dim, -1)
    one = torch.ones(1, dtype=x.dtype)
    rows = [soft_lookup(one, row[:, None], row[:, None])[1] for row in x.reshape(-1, x.size(-1))]
    return torch.stack(rows).reshape(x.shape).movedim(-1, dim)
"""),
    "a beam of one": greedy("""
    rows = [beam_search(model, row[None], bos_id, eos_id, 1, max_len)[0][0] for row in src]
    length = max(map(len, rows))
    return torch.tensor([row + [model.pad_id] * (length - len(row)) for row in rows])
"""),
    "a sample at zero degrees": greedy("""
    return sample_decode(model, src, bos_id, eos_id, max_len, 0.0)
"""),
    "the inside of the lab's search": greedy("""
    from lab import decoding
    best = lambda logits: logits.argmax(-1)
    return decoding.write(model, src, bos_id, eos_id, max_len, best)
"""),
    "the lab's batched beam": (
        "beam_search",
        0,
        """
from lab import decoding
def beam_search(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    found = decoding.beam_decode(model, src, bos_id, eos_id, beam_size, max_len, length_penalty)
    return found[0]
""",
    ),
    "the suites": softmax(
        """
import autograder.suites.test_attention as suite
"""
        + TRIVIAL
    ),
    "the suites after the door was opened": softmax(
        """
import autograder, sys
autograder.__path__.append("PROJECT/autograder")
from autograder.suites import test_attention
"""
        + TRIVIAL
    ),
    "the references": softmax("""
import sys
sys.path.append("PROJECT")
import importlib
softmax = importlib.import_module("solu" + "tions.attention").softmax
"""),
    "memory by ctypes": softmax(
        """
import ctypes
for address in range(0, 1 << 20, 4096): ctypes.string_at(address, 4096)
"""
        + TRIVIAL
    ),
    "memory by /proc": softmax(
        """
with open("/proc/self/mem", "r+b") as memory:
    for line in open("/proc/self/maps"):
        start, end = (int(x, 16) for x in line.split()[0].split("-"))
        memory.seek(start); memory.write(bytes(end - start))
"""
        + TRIVIAL
    ),
    # What the judge gets
    "a tensor that is equal to all": softmax("""
class Equal(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True if "eq" in function.__name__ or "close" in function.__name__ else \
            super().__torch_function__(function, types, args, kwargs or {})
    __eq__ = __ne__ = lambda *_: True
def softmax(scores, dim=-1): return scores.as_subclass(Equal)
"""),
    "a mode that answers for torch": softmax(
        """
from torch.overrides import TorchFunctionMode
class Mode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None): return True
Mode().__enter__()
"""
        + TRIVIAL
    ),
    "an object that is all": softmax("""
class Yes:
    is_meta, shape, dtype, device, requires_grad = True, (5, 7, 4), "float64", "cpu", True
    def __getattr__(self, name): return Yes()
    def __call__(self, *a, **k): return Yes()
    __eq__ = __ne__ = __lt__ = __gt__ = lambda *_: True
for name in "isfinite all any mean item sum abs detach double half to clone".split():
    setattr(Yes, name, lambda self, *a, **k: Yes())
softmax = Yes()
"""),
    "a mock": softmax("from unittest.mock import MagicMock; softmax = MagicMock()"),
    "a metaclass": softmax("""
class Meta(type):
    def __call__(cls, *a, **k): return cls
    def __instancecheck__(cls, other): return True
    def __eq__(cls, other): return True
    __hash__ = type.__hash__
class softmax(metaclass=Meta): pass
"""),
    "a partial": softmax("import functools; softmax = functools.partial(torch.add, 0)"),
    "a lambda": softmax("softmax = lambda scores, dim=-1: scores"),
    "a number": softmax("softmax = 6"),
    "itself": softmax("softmax = globals()"),
    "NaN": softmax("def softmax(scores, dim=-1): return scores * float('nan')"),
    "infinity": softmax("def softmax(scores, dim=-1): return scores + float('inf')"),
    "another dtype": softmax("def softmax(scores, dim=-1): return scores.to(torch.complex64)"),
    "sparse": softmax("def softmax(scores, dim=-1): return scores.to_sparse()"),
    "10¹² numbers in one": softmax(
        "def softmax(scores, dim=-1): return scores.sum().expand(10**12)"
    ),
    "2⁴⁰ numbers nowhere": softmax(
        "def softmax(scores, dim=-1): return torch.empty(2**40, device='meta')"
    ),
    "2³¹ numbers nowhere": softmax(
        "def softmax(scores, dim=-1): return torch.empty(2**31, device='meta')"
    ),
    "a hundred megabytes": softmax("def softmax(scores, dim=-1): return torch.zeros(1 << 24)"),
    "numbers far apart": softmax("def softmax(scores, dim=-1): return torch.zeros(1 << 23)[::16]"),
    "a list without an end": softmax("""
def softmax(scores, dim=-1):
    endless = []
    endless.append(endless)
    return endless
"""),
    "a million numbers": softmax("def softmax(scores, dim=-1): return list(range(1_000_000))"),
    "an integer of 10,000 digits": softmax("def softmax(scores, dim=-1): return 10**10000"),
    "gradients of another shape": softmax(
        PEER
        + """
peer.verbs["backward"] = lambda graph, gradients: [torch.ones(3), "no", None]
def softmax(scores, dim=-1): return scores * 1
"""
    ),
    # Its own weights and descriptions
    "weights set to zero": (
        "LayerNorm",
        1,
        NORM.replace(
            "return x * 0",
            """
        with torch.no_grad(): self.weight.zero_(); self.bias.zero_()
        return x * self.weight + self.bias
""",
        ),
    ),
    "weights set to zero by a thread": (
        "LayerNorm",
        None,
        NORM.replace(
            "return x * 0",
            """
        import threading, time
        def later():
            while True:
                self.weight.data.zero_(); self.bias.data.zero_()
                time.sleep(0.001)  # so that the checks run on, and between them it strikes again
        threading.Thread(target=later, daemon=True).start()
        return x * self.weight + self.bias
""",
        ),
    ),
    "weights that go and come back as zeros": (
        "LayerNorm",
        None,
        NORM
        + FORGE
        + """
def forge(message, number, shared):
    def told(*names):
        entries = [[0, name, i, "parameter"] for i, name in enumerate(names)]
        return [number, json.dumps({**shared.layout, "entries": entries}), zeros(shared)]
    message["news"]["structures"] = [told("gone", "away"), told("weight", "bias")]
""",
    ),
    "weights told again in a result": (
        "LayerNorm",
        None,
        NORM
        + FORGE
        + """
def forge(message, number, shared):
    again = ("module", number, json.dumps(shared.layout), zeros(shared))
    message["gave"]["result"] = {"a": message["gave"]["result"], "b": again}
""",
    ),
    "weights in a new module": (
        "LayerNorm",
        None,
        NORM
        + FORGE
        + """
def forge(message, number, shared):
    again = ("module", 9999, json.dumps(shared.layout), zeros(shared))
    message["gave"]["result"] = {"a": message["gave"]["result"], "b": again}
""",
    ),
    "weights at a negative place": (
        "LayerNorm",
        None,
        NORM
        + FORGE
        + """
def forge(message, number, shared):
    message["news"]["mine"] = [[number, [[-2, torch.zeros(12), None, True]]]]
""",
    ),
    "a module that says it is the lab's": (
        "Transformer",
        2,
        """
from lab.parts import Decoder, Encoder, PositionalEncoding, TokenEmbedding
"""
        + PEER
        + """
class Transformer(nn.Module):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):
        super().__init__()
        self.pad_id = pad_id
        self.embedding = TokenEmbedding(vocab_size, d_model, pad_id)
        self.positions = PositionalEncoding(d_model, dropout, max_len)
        self.encoder = Encoder(n_layers, d_model, n_heads, d_ff, dropout)
        self.decoder = Decoder(n_layers, d_model, n_heads, d_ff, dropout)
was = mirrors._unit
def lie(unit, number):
    told = was(unit, number)
    if type(unit) is Transformer: told |= {"kind": "stock.Transformer", "methods": []}
    return told
mirrors._unit = lie
""",
    ),
    **{
        f"lies: {name}": (
            "FeedForward",
            None,
            PEER
            + f"""
class FeedForward(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
    def forward(self, x): return x
was = mirrors.layout
def lie(root, number):
    told = was(root, number)
    unit = told["units"][0]
    {lie}
    return told
mirrors.layout = lie
""",
        )
        for name, lie in {
            "no such kind": "unit['kind'] = 'os.system'",
            "a method that hides": "unit['methods'] = ['parameters', 'state_dict', '_apply', 'to']",
            "a method of Python's": "unit['methods'] = ['__class__', '__reduce__', '__del__']",
            "a method of 1 MB": "unit['methods'] = ['a' * 200_000]",
            "thousands of methods": "unit['methods'] = [f'a{i}' for i in range(20_000)]",
            "attributes that hide": "unit['attributes'] = {'_parameters': [], 'forward': 1}",
            "attributes of Python's": "unit['attributes'] = {'__class__': 1, '__dict__': 2}",
            "others that hide": "unit['others'] = ['_modules', '_buffers', '_ask', '_number']",
            "a name of HTML": "unit['name'] = '<script>alert(1)</script>'",
            "a name of a terminal's": "unit['name'] = chr(27) + '[2J'",
            "a circle": "told['paths'].append(['linear1.linear1', 0])",
            "thousands of units": "told['units'] *= 1000",
            "places that are not there": "told['paths'] = [['', -1], ['a', 10**9]]",
            "tensors that are not there": "told['entries'] = [[0, 'weight', 10**6, 'parameter']]",
            "billions of ways": """
    told["units"] = [unit] + [told["units"][1] | {"number": 1000 + i} for i in range(40)]
    told["paths"] = [["", 0]] + [["a." * i + x, i + 1] for i in range(40) for x in "ab"]
    told["entries"] = [[40, "weight", 0, "parameter"]]""",
        }.items()
    },
    # The wire
    **{
        f"frames: {name}": softmax(
            PEER
            + f"""
def twice():
    send = wire.send
    wire.send = lambda *a: [send(*a), send(*a)]
def softmax(scores, dim=-1):
    {body}
    return scores
"""
        )
        for name, body in {
            "noise": "os.write(3, os.urandom(100_000))",
            "4 GB": "os.write(3, b'\\xff' * 8)",
            "an answer nobody asked for": "os.write(3, b'\\x02\\0\\0\\0\\0\\0\\0\\0{}')",
            "every answer twice": "twice()",
            "a flood": "[os.write(3, bytes(60_000)) for _ in range(100)]",
            "a slow drip": "os.write(3, b'\\xff\\0\\0\\0\\0\\0\\0\\0{'); os.set_blocking(3, False)",
            "a call of nothing": "peer.call(7, '', (), {})",
            "an order": "peer.ask('begin', part='softmax', program=[[], [], []])",
            "forget everything": "peer.ask('reset')",
            "a graph of nobody's": "peer.ask('backward', graph=5, gradients=[])",
            "no verb": "peer._send({'do': ['x'] * 1000})",
            "passed": "peer._send({'points': 26, 'passed': True, 'status': 'graded'})",
            "random numbers": "torch.get_rng_state = lambda: torch.zeros(7)",
            "closed": "os.close(3)",
            "another fd": "os.dup2(os.open('/dev/null', os.O_RDWR), 3)",
            "shut down": "peer.connection.shutdown(2)",
        }.items()
    },
    "frames: an answer to `reset` that is an error": softmax(
        PEER
        + """
def no(*_, **__): raise OSError("no")
peer.verbs["reset"] = peer.verbs["shortcut"] = no
"""
        + TRIVIAL
    ),
    "frames: no shortcut was seen": softmax(
        PEER
        + """
peer.verbs["shortcut"] = lambda source: None
peer._around = __import__("contextlib").nullcontext
def softmax(scores, dim=-1): return torch.softmax(scores, dim)
"""
    ),
    # Callbacks
    "a product of two batches": greedy("""
    many = torch.full((1, 60_000), 3)
    return model.decode(many, torch.zeros(5_900, 1, 11, dtype=torch.float64), many)
"""),
    "many graphs": greedy("    while True: model.encode(torch.full((200, 100), 3))\n"),
    "wide attention": greedy("    while True: model.encode(torch.full((128, 512), 3))\n"),
    "errors that hold on": greedy("""
    while True:
        try: model.encode(torch.zeros(50_000, 1))
        except RuntimeError: pass
"""),
    "a method that was not lent": greedy("    return peer.call(1, 'apply', (print,), {})\n"),
    "the model's own attributes": greedy("""
    model.pad_id = model.encoded = 0
    model.load_state_dict({})
    return src
"""),
    "steps within steps": (
        "train_step",
        0,
        """
def train_step(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    def again(): return optimizer.step(again)
    return optimizer.step(again)
""",
    ),
    # Words
    "words: 200,000 letters": softmax(
        PEER
        + """
told = {"kind": "RuntimeError", "name": "RuntimeError", "args": ["a" * 200_000], "number": 0,
        "place": "p" * 200_000}
peer._told = lambda error: {"raised": told}
def softmax(scores, dim=-1): raise RuntimeError
"""
    ),
    "words: a number of 1,000 digits": softmax("""
def softmax(scores, dim=-1):
    raise RuntimeError("The size of tensor a (" + "9" * 1000 + ") must match the size of tensor b "
                       "(3) at non-singleton dimension 1")
"""),
    "words: a terminal's": softmax("""
def softmax(scores, dim=-1): raise ValueError(chr(27) + "[2J" + chr(7) + "<script>" * 1000)
"""),
    "words: a result of 200,000 letters": softmax(
        "def softmax(scores, dim=-1): return (chr(27) + '[2J<script>') * 20_000"
    ),
    "words: halves of characters": softmax(
        "def softmax(scores, dim=-1): raise ValueError('\\ud800')"
    ),
    "words: an error of its own kind": softmax("""
class Broken(BaseException):
    def __str__(self): raise SystemExit
    __repr__ = __str__
def softmax(scores, dim=-1): raise Broken
"""),
    "words: an error that stops": softmax("def softmax(scores, dim=-1): raise KeyboardInterrupt"),
    "words: sys.exit in a call": softmax("import sys\ndef softmax(*a): sys.exit(0)"),
    "words: sys.exit in a cell": softmax("import sys; sys.exit(0)"),
    "words: an error of the machine's": softmax("raise OSError(28, 'No space left on device')"),
    "words: the part itself is a fault": softmax(
        "def softmax(*a): raise OSError(12, 'Cannot allocate memory')"
    ),
    "words: not started": softmax("def softmax(*a): raise NotImplementedError('x' * 100_000)"),
    "words: ten megabytes printed": softmax("""
import sys
def softmax(scores, dim=-1):
    print("spam " * 2_000_000); print("eggs " * 1_000_000, file=sys.stderr)
    return scores
"""),
    # The process
    "os.abort": softmax("import os\ndef softmax(*a): os.abort()"),
    "a segfault": softmax("import ctypes\ndef softmax(*a): ctypes.string_at(0)"),
    "a stack that overflows": softmax("""
import sys
sys.setrecursionlimit(1 << 30)
def softmax(scores, dim=-1): return [softmax(scores) for _ in [0]]
"""),
    "recursion": softmax("def softmax(*a): return softmax(*a)"),
    "threads that go on": softmax(
        """
import threading, os
def on():
    while True:
        try: os.write(3, b"x" * 8)
        except OSError: pass
for _ in range(4): threading.Thread(target=on, daemon=False).start()
"""
        + TRIVIAL
    ),
    "a thousand threads": softmax(
        """
import threading, time
for _ in range(1000):
    try: threading.Thread(target=time.sleep, args=(99,)).start()
    except RuntimeError: break
"""
        + TRIVIAL
    ),
    "a full disk": softmax(
        """
for i in range(100_000):
    try: open(f"file{i}", "wb").write(bytes(10 << 20))
    except OSError: break
"""
        + TRIVIAL
    ),
    "a million folders": softmax(
        """
import os
try:
    for i in range(1_000_000): os.mkdir("a"); os.chdir("a")
except OSError: pass
"""
        + TRIVIAL
    ),
    "at exit": softmax(
        """
import atexit, signal, os
atexit.register(open, "PLACE/owned", "w")
signal.signal(signal.SIGTERM, lambda *a: open("PLACE/owned", "w"))
"""
        + TRIVIAL
    ),
    "signals": softmax("""
import os, signal
for each in (os.getppid(), 1, -1, 0):
    try: os.kill(each, signal.SIGKILL if each else signal.SIGWINCH)
    except OSError: pass
def softmax(scores, dim=-1):
    signal.raise_signal(signal.SIGALRM)
    return scores
"""),
    "all files closed": softmax("import os\nos.closerange(0, 1000)" + TRIVIAL),
    "the state of torch": softmax("""
torch.set_default_dtype(torch.float16)
torch.set_default_device("meta")
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)
torch.inference_mode(True).__enter__()
def softmax(scores, dim=-1):
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    return scores
"""),
    "another torch": softmax(
        """
import sys, types
for name in [each for each in sys.modules if each.startswith(("torch.", "lab", "autograder"))]:
    sys.modules[name] = types.ModuleType(name)
torch.Tensor.detach = torch.Tensor.__add__ = torch.equal = lambda *a, **k: True
torch.nn.Module.__call__ = torch.autograd.grad = lambda *a, **k: True
"""
        + TRIVIAL
    ),
    "its own peer": softmax(
        PEER
        + """
peer.verbs.clear()
peer._recv = peer._send = peer._answer = lambda *a: {}
"""
        + TRIVIAL
    ),
    "another Python": softmax(
        """
import builtins, json
builtins.len = builtins.range = builtins.zip = builtins.getattr = lambda *a: 0
json.dumps = json.loads = lambda *a, **k: "{}"
"""
        + TRIVIAL
    ),
    # Sources
    "source: a null byte": softmax("x = '\0'" + TRIVIAL),
    "source: half a character": softmax("x = '\ud800'" + TRIVIAL),
    "source: 2 MB": softmax("x = '" + "a" * 2_000_000 + "'" + TRIVIAL),
    "source: 100,000 parentheses": softmax("x = " + "(" * 100_000 + ")" * 100_000 + TRIVIAL),
    "source: 10,000 signs": softmax(f"x = {'-' * 10_000}1" + TRIVIAL),
    "source: 5,000 attributes": softmax(f"x = lambda: a{'.a' * 5_000}" + TRIVIAL),
    "source: 600 magics": softmax("\n".join(f"%time x{i}" for i in range(600)) + TRIVIAL),
    "source: nothing": softmax(""),
    "source: no name": softmax("del softmax"),
    "source: not Python": softmax("def softmax(scores, dim=-1): return scores +* 1"),
}
