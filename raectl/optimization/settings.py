"""The options of an optimization."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from raectl import registry, rng
from raectl.errors import UsageError

FEWEST = 20  # latents that the surrogate needs


@dataclass(frozen=True)
class Settings:
    """The options of an optimization. Only `rounds` may change when a run is resumed.

    Arguments:
        objective: registry name.
        rounds: total number of rounds, also when resuming.
        batch: points per round.
        points: maximum number of the data's latents that the surrogate is fitted to; chosen by the seed.
        inducing: number of inducing points of the surrogate.
        seed: of everything random.

    Raises:
        UsageError: a number is out of range, or there is no such objective.
    """

    objective: str
    rounds: int = 5
    batch: int = 50
    points: int = 5000
    inducing: int = 200
    seed: int = 0

    _RANGES: ClassVar[dict[str, tuple[int, int]]] = {
        "rounds": (1, 10_000),
        "batch": (1, 10_000),
        "points": (FEWEST, 10_000_000),
        "inducing": (2, 10_000),
    }

    def __post_init__(self) -> None:
        registry.check("objective", self.objective)
        rng.check_seed(self.seed)
        for name, (low, high) in self._RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"--{name} {getattr(self, name)} is out of range: {low} to {high}")

    def kept(self) -> dict[str, Any]:
        """The options that must not change when a run is resumed."""
        return {name: value for name, value in asdict(self).items() if name != "rounds"}
