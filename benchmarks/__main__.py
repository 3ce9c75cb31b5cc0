"""Every benchmark by name: `python -m benchmarks NAME --help`, from the root of the repository."""

import sys
from importlib import import_module

# name: its module and function, and what it does. Only the named one is imported: a GPU machine has torch and numpy alone.
COMMANDS = {
    "cpu": ("cpu.run:main", "layers, networks and training beside the peers: make bench"),
    "train": ("cpu.run:train_main", "KANs and MLPs trained on real data alone"),
    "science": ("science.run:main", "errors of fit and structures of sparsify over seeds, beside pykan"),
    "swap": ("swap.run:main", "small models trained as they are and swapped, with the same optimizers"),
    "models": ("swap.table:main", "every model of swap after the swap: trained, saved, loaded, exported"),
    "plot": ("cpu.run:plot_main", "print and draw an earlier run of cpu or train"),
    "gpu": ("gpu.run:main", "throughput on an NVIDIA GPU beside cuBLAS and the peers"),
    "tune": ("tune:main", "tiles of the Triton kernels for the GPU at hand"),
    "threads": ("threads:main", "what more threads bring on the CPU"),
    "crossovers": ("crossovers:main", "which way through the CPU's C++ is faster where"),
    "fused-gradients": ("fused_gradients:main", "what gradients in one pass save on the CPU"),
    "jets": ("jets:main", "derivatives in one pass beside nested differentiation on the CPU"),
    "vmap": ("vmap:main", "torch.func over KANs beside plain ways on the CPU"),
    "rates": ("instructions.rates:main", "rates of dense and 2:4 sparse matrix instructions on an NVIDIA GPU"),
    "proof": ("proof:main", "every test that needs a GPU, then gpu: make gpu"),
}


def main(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(__doc__, *(f"  {command:16} {what}" for command, (_, what) in COMMANDS.items()), sep="\n")
        return 0
    if name not in COMMANDS:
        print(f"benchmarks: expected one of {', '.join(COMMANDS)}, received {name!r}", file=sys.stderr)
        return 2
    module, function = COMMANDS[name][0].split(":")
    return getattr(import_module(f"benchmarks.{module}"), function)(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
