"""A run on many machines: which node measures which panel when, and what becomes of those that are lost.

`scheduling` decides and knows no cluster, so that the simulation runs on it, too; `node_types` tells machines apart and
shares workloads out; `node` is what runs on a node; `cluster` alone speaks to Ray. Panels are measured by the code that
measures them on one machine.
"""
