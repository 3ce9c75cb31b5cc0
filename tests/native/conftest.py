"""What the tests of the compiled core share."""

from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def core() -> ModuleType:
    return pytest.importorskip("fastkan._C", reason="fastkan was built without its compiled core")
