"""Everyone who takes part, in the order of the tables."""

from benchmarks.providers import efficient, fastkan, inkan, mlp, pykan
from benchmarks.providers.interface import Provider


def providers(device: str) -> list[Provider]:
    peers = (*efficient.PROVIDERS, *inkan.PROVIDERS, *pykan.PROVIDERS)
    return [*fastkan.providers(device), *peers, *mlp.PROVIDERS]
