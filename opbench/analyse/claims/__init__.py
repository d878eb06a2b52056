"""Claims of papers and write-ups as data, and the measures that confirm or refute them."""
