"""What `opbench deploy` makes: files for other runtimes, each proven, and the script that proves them on a device.

`on_device.py` is copied beside the files and imports nothing of opbench. The rest is opbench's own and may change.
"""
