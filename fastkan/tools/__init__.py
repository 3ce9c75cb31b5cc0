"""What `python -m fastkan` runs: info and profile."""
