"""What must hold when something is wrong: one test for each row of the table of abuse and faults (SECURITY.md).

Files go by what is attacked. Most share one server process; `tests.faults.oracle` says what must hold after each.
"""
