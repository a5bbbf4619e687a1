"""What tests of the whole house need to be collected."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "container: needs a container engine, or root on Debian")
