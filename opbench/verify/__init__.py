"""Verify: is an output what the definition says, within what rounding explains? One call, its bound, one verdict."""
