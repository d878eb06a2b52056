"""Statistics: intervals, paired ratios and shifts, change and change points. Numbers in, numbers out."""
