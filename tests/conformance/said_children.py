"""Stand-ins for the process that tries a target."""

from opbench.process.death import hung


class SaysNoMore:
    """A checking process that says some messages and then nothing until its limit."""

    def __init__(self, *messages):
        self.messages = list(messages)

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        pass

    def send(self, job):
        pass

    def receive(self, seconds):
        return self.messages.pop(0) if self.messages else hung(seconds)


class Handed:
    """Stands for `Child`, as `Child[Message](...)`."""

    def __init__(self, child):
        self.child = child

    def __getitem__(self, kind):
        return lambda *arguments, **options: self.child
