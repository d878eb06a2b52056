"""64-bit ARM on any machine: kernels compiled for it, linked to a small driver, and run by QEMU's user emulation.

Nothing of Python or torch is emulated. `machine` takes the place of the processor that kernels are compiled for and
called on: it writes down what a kernel is called with and what lies in the memory that it is told of, `driver.c` calls
it there on several threads, and what it left in that memory is brought back. So a test calls the operations as always.
"""
