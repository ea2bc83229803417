import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from prunecast.plotting import style

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _page() -> Iterator[None]:
    """Figures are drawn as on a page, and no warning reaches it."""
    with mpl.rc_context(), warnings.catch_warnings(action="error"):
        warnings.simplefilter("ignore", ResourceWarning)  # of what other tests left to be collected
        mpl.use("agg")
        style.use_style()
        yield
        plt.close("all")
