"""The judge of outputs, in a process that never loads a contender's code.

It evaluates the definition and judges what the worker hands over; the run keeps its verdicts. Where nobody's code is
loaded beside opbench's own, the worker judges by itself and nothing of this is at work.
"""
