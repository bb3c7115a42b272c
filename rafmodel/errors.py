"""The one error a user can cause, and any other in a line."""


class InputError(ValueError):
    """Bad input, told in one line: what, where, why, and what to do.  The command line turns it into exit code 2."""


def in_a_line(problem: Exception) -> str:
    """Any exception in one line: its kind and what it says."""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"
