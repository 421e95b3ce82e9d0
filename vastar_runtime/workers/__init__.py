"""More than one process: a supervisor, its workers, and what they tell each other."""
