"""fastkan against pykan, its peers and multilayer perceptrons: `python -m benchmarks`."""
