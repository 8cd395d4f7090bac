"""The options of the second phase."""

from dataclasses import dataclass

from raectl.config import Checked, declared

LEAST_STEPS, MOST_STEPS = 300, 10_000_000
FILTERS, MOST_FILTERS = {"cpu": 16}, 32  # of the critic, by device; elsewhere the most


@dataclass(frozen=True)
class Options(Checked):
    """What the second phase is asked to do.

    Raises:
        UsageError: an option is out of range.
    """

    steps: int = declared(
        LEAST_STEPS,
        "Steps; each takes 1.2 to 1.4 times a step of the training.",
        low=1,
        high=MOST_STEPS,
        shown=f"a quarter of the training's, {LEAST_STEPS} at least",
        panel="Training",
    )
    weight: float = declared(
        0.5, "Weight of the critic's gradient against the squared error's.", above=0, high=100, panel="Training"
    )
    seed: int = declared(
        0, "Seed of everything random.", low=0, high=2**63 - 1, shown="the training's", panel="Training"
    )
    filters: int = declared(16, "m, of the critic's first layer.", low=1, high=MOST_FILTERS)
