"""The Triton kernels, imported as `fastkan.kernels` and by `fastkan.backends` only, when a GPU tensor first arrives."""

from fastkan.kernels.launch import forward, grad_input, grad_weight, gradients, gram, quadratic

__all__ = ["forward", "grad_input", "grad_weight", "gradients", "gram", "quadratic"]
