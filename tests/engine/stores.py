"""Stores for tests: one in memory of its own, and one that loses acknowledgements, cuts writes short and lists late."""

import random
import threading

from opbench.storage.objects import ObjectStore


class MemoryFiles:
    """As much of fsspec's interface as a store asks for, in a dictionary that several writers may share."""

    def __init__(self, held=None):
        self.held = {} if held is None else held
        self.lock = threading.Lock()

    def invalidate_cache(self, path=None):
        pass

    def pipe_file(self, path, data):
        with self.lock:
            self.held[path] = bytes(data)

    def cat_file(self, path, start=None, end=None):
        with self.lock:
            if path not in self.held:
                raise FileNotFoundError(path)
            return self.held[path][start:end]

    def cat(self, paths, on_error="raise"):
        found = {}
        for path in paths:
            try:
                found[path] = self.cat_file(path)
            except FileNotFoundError as error:
                found[path] = error
        return found

    def find(self, path, detail=False):
        with self.lock:
            found = {name: {"size": len(data)} for name, data in self.held.items() if name.startswith(f"{path}/")}
        return found if detail else sorted(found)


class FlakyFiles(MemoryFiles):
    """A third of all writes happens without an answer, an eighth is cut short with one; a listing lacks the newest."""

    def __init__(self, held=None, seed=0, unseen=5):
        super().__init__(held)
        self.random = random.Random(seed)
        self.unseen = unseen
        self.order = []
        self.faults = 0

    def pipe_file(self, path, data):
        drawn = self.random.random()
        self.order.append(path)
        if drawn < 1 / 8:
            self.faults += 1
            super().pipe_file(path, data[: len(data) // 2])
            return
        super().pipe_file(path, data)
        if drawn < 1 / 8 + 1 / 3:
            self.faults += 1
            raise TimeoutError("no answer")

    def cat_file(self, path, start=None, end=None):
        if self.random.random() < 1 / 10:
            self.faults += 1
            raise ConnectionError("reset by peer")
        return super().cat_file(path, start, end)

    def find(self, path, detail=False):
        newest = set(self.order[-self.unseen :]) if self.unseen else set()
        found = super().find(path, detail=True)
        kept = {name: about for name, about in found.items() if name not in newest}
        return kept if detail else sorted(kept)


def store_of(files, address="mock://bucket/run"):
    return ObjectStore(address, files, "bucket/run", sleep=lambda seconds: None)
