"""What `opbench list` lists. `tables` asks the registry for it, `kept` keeps what was asked until something changes."""
