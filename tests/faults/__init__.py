"""What must hold when something is wrong: the table of abuse and faults, one test a row (the number is in its name).

Files go by what is attacked. Most tests share one server process; `tests.faults.oracle` says what must hold after each.
"""
