"""The suites ask here, the learner's code answers there: a process apart, behind a narrow channel.

wire       what may be said between the two: plain values and tensors, every size bounded
sandbox    what the learner's process may not do, and how much of that this host enforces
seccomp    its innermost layer: the system calls that are refused
zygote     the judge's side: a warm parent that gives a fresh process in milliseconds
nursery    the other side: what runs in that parent and in its children
"""
