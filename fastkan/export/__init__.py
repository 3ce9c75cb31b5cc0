"""Models for runtimes without fastkan: programs of torch.export, AOTInductor packages and ONNX files."""

from fastkan.export.programs import decompositions

__all__ = ["decompositions"]
