"""Which relation convicts which mutant: no mutant survives, no relation is dead, and what only one relation sees."""

from opbench.conformance.ways import ways_of_calling

# Broken by bugs of state and of calls, which have a table of their own.
WAYS_OF_CALLING = frozenset(relation.name for relation in ways_of_calling(None, None))


def lonely_and_idle(mutants, relations, dtypes, convicts):
    """Mutants that one relation alone convicts, with its name (None for a survivor), and relations that convict none.

    `convicts(relation, core, dtype)` tries one. A mutant is put aside once two relations convict it: it is not lonely.
    Relations that nothing was left for by then are tried on mutants until one falls.
    """
    relations = [relation for relation in relations if relation.name not in WAYS_OF_CALLING]
    killers = {name: [] for name in mutants}
    useful = set()
    for name, mutant in mutants.items():
        for relation in relations:
            if len(killers[name]) == 2:
                break
            if any(convicts(relation, mutant.function, dtype) for dtype in dtypes):
                killers[name].append(relation.name)
                useful.add(relation.name)
    idle = [
        relation.name
        for relation in relations
        if relation.name not in useful
        and not any(convicts(relation, mutant.function, dtype) for dtype in dtypes for mutant in mutants.values())
    ]
    lonely = {name: next(iter(found), None) for name, found in killers.items() if len(found) < 2}
    return lonely, idle


def said(family, lonely, idle):
    """The lines for a terminal."""
    yield f"{family}: {len(lonely)} mutants that one relation alone convicts"
    for name, relation in lonely.items():
        yield f"  {name}: {relation or 'NONE'}"
    yield f"  relations that convict none: {', '.join(idle) or 'none'}"
