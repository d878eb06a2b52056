"""Folders that are no folders: any address that fsspec knows, `s3://bucket/runs`, `memory://x`, `gs://...`.

`address` tells an address from a path, `objects` reads and writes what lies there and holds a store to nothing that it
hasn't shown, `mirror` brings results to this machine. Only these import fsspec, when an address is used.
"""
