"""Prints the mutation score when all tests are over.

A test of a mutant leaves its verdict by `record_property("mutant", (family, what convicted it or None))`.
"""


def pytest_terminal_summary(terminalreporter):
    reports = (report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ()))
    verdicts = [value for report in reports for name, value in report.user_properties if name == "mutant"]
    for family in sorted({family for family, _ in verdicts}):
        convicted = [by is not None for of, by in verdicts if of == family]
        terminalreporter.write_line(f"mutation score, {family}: {sum(convicted)} of {len(convicted)} killed")
