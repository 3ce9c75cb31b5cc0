"""pykan's models, as KANs and back."""

from fastkan.interop.pykan.back import to_pykan
from fastkan.interop.pykan.convert import from_pykan

__all__ = ["from_pykan", "to_pykan"]
