"""What fit and sparsify reach, beside pykan: `python -m benchmarks science`."""
