"""The examples in the docstrings run."""

import doctest
import importlib
import importlib.util

import pytest

OF_PYKAN = ("pykan.convert", "pykan.back")


@pytest.mark.parametrize("name", ["edges", "efficient_kan", "fast_kan", "files", *OF_PYKAN])
def test_examples_give_what_they_say(name):
    if name in OF_PYKAN and not importlib.util.find_spec("kan"):
        pytest.skip("pykan is not installed")
    result = doctest.testmod(importlib.import_module(f"fastkan.interop.{name}"))
    assert result.attempted and not result.failed
