"""The operators: one file = one operator (or one family of rivals): definition, module, cores, closed-form costs."""
