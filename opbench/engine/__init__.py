"""The engine: takes a plan through build, verify, count, measure and verify again, and journals every record."""
