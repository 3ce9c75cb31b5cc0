"""Everyone who takes part, in the order of the tables."""

from benchmarks.peers import efficient, fastkan, inkan, mlp, pykan
from benchmarks.peers.interface import Peer


def taking_part(device: str) -> list[Peer]:
    return [*fastkan.peers(device), *efficient.PEERS, *inkan.PEERS, *pykan.PEERS, *mlp.PEERS]
