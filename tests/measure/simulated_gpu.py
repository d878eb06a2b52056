"""A GPU on paper: an enqueueing host, a device time line of its own, an L2, and a clock that may throttle."""

from opbench.measure.throttle import Reading

LAUNCH_SECONDS = 2e-6
FLUSH_SECONDS = 1e-4
FULL_MHZ = 1980.0


class SimulatedGpu:
    """`kernel(seconds)` makes a call that costs `seconds` at the full clock, twice that right after a flush.

    What is enqueued runs at once on the device's time line and is in `log`; the host only waits when told to.
    """

    def __init__(self, clocks=(), temperature=60.0):
        self.host = self.device = 0.0
        self.log = []
        self.cold = self.capturing = False
        self.clocks = list(clocks)  # readings to come, the last of which stays; none: the full clock
        self.temperature = temperature
        self.reasons = 0
        self.slept = 0.0

    @property
    def mhz(self):
        return self.clocks[0] if self.clocks else FULL_MHZ

    def enqueue(self, name, seconds):
        self.log.append(name)
        self.host += LAUNCH_SECONDS
        self.device = max(self.device, self.host) + seconds * FULL_MHZ / self.mhz

    def kernel(self, seconds):
        def call():
            self.enqueue("call", seconds * (2 if self.cold else 1))
            self.cold = False

        return call

    def event(self):
        return Event(self)

    def flush(self):
        self.enqueue("flush", FLUSH_SECONDS)
        self.cold = True

    def synchronize(self):
        self.log.append("synchronize")
        self.host = max(self.host, self.device)

    def capture(self, call):
        self.log.append("capture")
        call()
        self.log.pop()
        return call

    def now(self):
        self.host += 1e-7
        return self.host

    def read(self):
        reading = Reading(self.mhz, self.temperature, self.reasons)
        if len(self.clocks) > 1:
            self.clocks.pop(0)
        return reading

    def sleep(self, seconds):
        self.slept += seconds
        self.host += seconds


class Event:
    def __init__(self, gpu):
        self.gpu, self.at = gpu, None

    def record(self):
        self.gpu.log.append("event")
        self.at = self.gpu.device = max(self.gpu.device, self.gpu.host)

    def synchronize(self):
        self.gpu.synchronize()

    def elapsed_time(self, end):
        assert self.gpu.host >= end.at, "read before the device was waited for"
        return (end.at - self.at) * 1e3
