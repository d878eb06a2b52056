"""Networks that compete: one file, one task. The registry imports every file here; none imports what is optional."""
