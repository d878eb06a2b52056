"""What `opbench doctor` looks at: packages, the machine, and what other packages have installed. A file each.

Nothing here measures, and nothing raises: what can't be looked at is a line that says so. `diagnosis.diagnose` asks
them all.
"""
