"""Throughput on an NVIDIA GPU beside cuBLAS: `python benchmarks/gpu.py --help`."""
