"""fastkan against pykan, its peers and multilayer perceptrons: `python benchmarks/run.py --help`."""
