"""python -m fastkan profile: where the time of a layer goes, and how far each operation is from what the machine can do."""

from fastkan.tools.profile.command import add_options, run

__all__ = ["add_options", "run"]
