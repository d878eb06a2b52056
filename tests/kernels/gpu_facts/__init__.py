"""What can be known of the Triton kernels without a GPU, exactly: `python tests/kernels/write_gpu_facts.py`.

`problems` are the calls, `ahead` (beside this folder) compiles what they launch, `machine_code` reads what came of it,
`occupancy` holds it against what devices publish. `sectors` counts what programs ask of memory: addresses are those
that Triton's interpreter sees, and who asks for which in one instruction is by the `layouts` of Triton's own IR.
`prediction` puts them together, and says that it is one. Nothing here was measured on a GPU.
"""
