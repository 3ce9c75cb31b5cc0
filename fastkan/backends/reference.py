"""Backend reference: plain PyTorch, on any device, for any degree (fastkan/reference.py)."""

from fastkan import reference
from fastkan.backends.registry import Backend

BACKEND = Backend(
    "reference",
    "plain PyTorch (reference.py)",
    reference,
    declines=lambda device, dtype, degree: None,
)
