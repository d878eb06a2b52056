"""What every module promises, whatever it computes: `opbench check` without an operator.

`check.py` watches, `worker.py` constructs the module and tries one promise after another in a process of its own.
`wrong.py` and `fragile.py` hold the promises, one function each; a new one is a function and a row of its table.
"""
