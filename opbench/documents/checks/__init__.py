"""What a document must hold beside its types: a document may come from anybody, and what is read is believed.

`numbers` has the rules for every number of every kind; a kind's own check, beside its noun or here, has what one field
says of another. Each yields flaws, the first of which refuses the document.
"""
