"""What ends a run."""


class BenchError(Exception):
    """The run cannot go on; one line for a person."""
