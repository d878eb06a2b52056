"""Counters of a kernel that says what a test wants: this process's threads wait for a core, or never do."""

import time

from opbench.measure.disturbance import Counters


class Waiting:
    """They wait for this share of their time."""

    source = "schedstat"

    def __init__(self, share=0.0):
        self.share = share

    def read(self):
        return Counters(self.share * time.perf_counter(), None, None)

    def close(self):
        pass
