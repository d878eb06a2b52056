"""One protocol for all child processes: messages in JSON lines, a heartbeat, limits, and a name for every death.

`child` is the parent's side and `channel` the child's; `pool` shares jobs out among children; `heartbeat` is a page
that a child writes to and its parent reads without asking. Whatever starts another process of Python starts it here.
"""
