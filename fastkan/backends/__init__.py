"""Who computes the operations: one file a backend, and the registry that chooses among them. Only fastkan.ops imports it."""

from fastkan.backends import cpu, cuda, native, reference, registry, triton
from fastkan.backends.registry import Backend, Jet, Stack, available, check_name, names, resolve, select, table, use_backend

# In order of preference. cpu stands before triton because Triton's interpreter, a tool for tests, serves CPU tensors too.
for _backend in (cpu.BACKEND, triton.BACKEND, cuda.BACKEND, reference.BACKEND):
    registry.register(_backend)
registry.environment_choice()  # a wrong name in FASTKAN_BACKEND is refused here and now

__all__ = [
    "Backend",
    "Jet",
    "Stack",
    "available",
    "check_name",
    "names",
    "native",
    "registry",
    "resolve",
    "select",
    "table",
    "use_backend",
]
