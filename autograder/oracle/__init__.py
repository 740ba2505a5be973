"""The suites ask here, the learner's code answers there: a process apart, behind a narrow channel.

grading    a hand-in as points and sentences; result: as JSON
remote     the parts of a hand-in in processes apart, before the suites of this one
peer       two processes that use each other's objects; mirrors: modules of the other one
transcript what the two have said, so that the same answers are not judged twice
wire       what may be said between the two: plain values and tensors, every size bounded
worker     what runs in a learner's process
zygote     the judge's side: a warm parent that gives a fresh process in milliseconds
nursery    the other side: what runs in that parent and in its children
sandbox    what the learner's process may not do, and how much of that this host enforces
seccomp    its innermost layer: the system calls that are refused

commands   lab grade: batch, many hand-ins, each found by finding and graded once by a job, which
           keeps a grader, here or on a cluster
"""
