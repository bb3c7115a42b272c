"""The one error a user can cause."""


class InputError(ValueError):
    """Bad input, told in one line: what, where, why, and what to do.  The command line turns it into exit code 2."""
