"""What every operator of a slot costs in a person's network: the slot's places found, priced by a run, weighed.

`places` finds them and writes the suite that `opbench run` measures; `weighing` reads the run; `report` says it.
Nothing here measures.
"""
