"""What a named GPU's data sheet says that an operator takes at least: floors of time, and never a latency.

`gpus.toml` holds the rates with their sources; `gpus` reads them, `floors` holds a plan's cases against them.
"""
