"""Results that others contribute: a bundle of a run, what of it can be derived again, and where contributed runs lie.

`bundle` packs and opens, `checks` has a file for each kind of sign that a document was changed, `verifying` holds a
bundle against all of them, `filing` puts a verified run into a results folder. Nothing of a bundle is executed.
"""
