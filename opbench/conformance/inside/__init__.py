"""The core inside a module: a forward pass is recorded, the operator's definition is found in it, and made callable.

`asking.look_inside` is what `opbench check` asks; what is looked for are the operators' declarations
(`opbench.anatomy`).
"""
