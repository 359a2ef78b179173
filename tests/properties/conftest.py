"""How much is generated: the same each time by default; `HYPOTHESIS_PROFILE=deep` looks for new worlds for minutes.

Only `deep` looks for the smallest failing history, which takes minutes too.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_ANY = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "quick",
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=_ANY,
)
settings.register_profile("deep", max_examples=4_000, deadline=None, suppress_health_check=_ANY)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
