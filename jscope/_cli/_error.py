"""`CommandError`: an error of a command, for `_app` to print."""


class CommandError(Exception):
    """An error in one line, and what to write instead."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.hint = hint
