"""Layers and small networks beside their peers, and networks trained on real data: `python -m benchmarks cpu`."""
