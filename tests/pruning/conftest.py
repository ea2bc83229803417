import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def _imports_are_no_garbage() -> None:
    """Every training of the Trainer ends with a full collection, which need not visit what imports have made."""
    gc.collect()
    gc.freeze()
