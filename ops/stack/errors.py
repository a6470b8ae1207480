"""What stops the local stack, said so that whoever started it can act on it."""


class StackError(Exception):
    """The local stack cannot do what was asked. `remedy` says what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n{remedy}")
        self.problem = problem
        self.remedy = remedy
