"""The Triton kernels, imported as `fastkan.kernels` and by `fastkan.backends` only."""
