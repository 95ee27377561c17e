"""Rules for the whole suite: no skip passes unseen in CI, no law depends on a machine's speed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# Read when NumPy and torch are loaded, which is later. The networks of the tests are tiny: more
# threads only wait for one another, and where cores are short they wait long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shared machine can stop any example for a second; a law is about results, not about time.
hypothesis.settings.register_profile("ours", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ours")

IN_CI = os.environ.get("CI") == "true"
GPU = "needs a GPU"  # the one reason that CI accepts: .ci/run installs everything else


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI, make a failure of a skip whose component .ci/run installs."""
    if not IN_CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if GPU not in reason:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where nothing may be missing: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at every test's outcome."""
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at files that skip as a whole."""
    report = yield
    refuse_skip(report)
    return report
