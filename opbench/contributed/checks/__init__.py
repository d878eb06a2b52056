"""What a contributed run is held against, a file for each kind of sign that it was changed.

A check takes a `Submission` and yields what it found: signs, what it derived again, and what it couldn't. Each knows
its own rule alone; `opbench.contributed.verifying` names them all.
"""
