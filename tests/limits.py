"""The only time limit of a test's child process."""

HANG = 3600  # seconds: far beyond what a busy machine needs, so it ends a hang and decides nothing else
