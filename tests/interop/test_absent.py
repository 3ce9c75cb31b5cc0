"""What a user without the other library reads."""

import subprocess
import sys

import pytest

import fastkan


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="^from_pretrained: expected transformers, .*: pip install transformers"):
        fastkan.from_pretrained(object, "path")


def test_without_pykan_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "kan", None)
    monkeypatch.setitem(sys.modules, "kan.MultKAN", None)
    with pytest.raises(ImportError, match="^to_pykan: expected pykan, .*: pip install 'fastkan.pykan.'"):
        fastkan.interop.to_pykan(fastkan.KAN([1, 1]))


def test_interop_is_not_imported_with_fastkan():
    code = "import fastkan, sys; assert not any(name.startswith('fastkan.interop') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
