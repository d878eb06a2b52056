"""What operators share: formulas of definitions, sampling by index, torch.compile for cores, the choice of a core.

It knows no operator by name.
"""
