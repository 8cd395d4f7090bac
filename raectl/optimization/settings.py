"""The options of an optimization."""

from dataclasses import asdict, dataclass
from typing import Any

from raectl import registry
from raectl.config import Checked, declared

FEWEST = 20  # latents that the surrogate needs


@dataclass(frozen=True)
class Settings(Checked):
    """The options of an optimization. Only `rounds` may change when a run is resumed; `objective` is a registry name.

    Raises:
        UsageError: a number is out of range, or there is no such objective.
    """

    objective: str
    points: int = declared(
        5000, "Strings of the data that are scored to begin with.", low=FEWEST, high=10_000_000, panel="Data"
    )
    rounds: int = declared(5, "In all, also when it goes on.", low=1, high=10_000, panel="Run")
    batch: int = declared(50, "Points a round.", low=1, high=10_000, panel="Run")
    inducing: int = declared(200, "Inducing points of the Gaussian process.", low=2, high=10_000, panel="Model")
    seed: int = declared(0, "Seed of everything random.", low=0, high=2**63 - 1, panel="Run")

    def __post_init__(self) -> None:
        registry.check("objective", self.objective)
        super().__post_init__()

    def kept(self) -> dict[str, Any]:
        """The options that must not change when a run is resumed."""
        return {name: value for name, value in asdict(self).items() if name != "rounds"}
