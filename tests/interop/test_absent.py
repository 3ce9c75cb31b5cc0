"""What a user without the other library reads."""

import sys

import pytest

import fastkan


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="^from_pretrained: expected transformers, .*: pip install transformers"):
        fastkan.from_pretrained(object, "path")
