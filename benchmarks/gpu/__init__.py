"""Throughput on an NVIDIA GPU beside cuBLAS: `python -m benchmarks gpu`."""
