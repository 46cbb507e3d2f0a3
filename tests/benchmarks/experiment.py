"""How often A/A tests that are looked at after every outcome are decided, and what a real difference costs to find.

`make benchmark` prints it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from monitoring.peeking import EFFECTS, NULL, cost, false_share

SHARES = (0.5, 0.1, 0.02)


def main() -> None:
    print("2,000 A/A tests of 5,000 outcomes, looked at after every outcome: share with a false verdict, at most 5 %")
    print(f"{'challenger gets':26}" + "".join(f"{share:>9.0%}" for share in SHARES))
    for name in NULL:
        print(f"{name:26}" + "".join(f"{false_share(name, share=share):>9.2%}" for share in SHARES), flush=True)
    print("\nA/B tests with a real difference: mean outcomes over those of a test with one look, of the same power")
    titles = ("power", "one look", "mean", "ratio", "most", "not ended")
    print(f"{'':26}" + "".join(f"{title:>10}" for title in titles))
    for name, effect in EFFECTS.items():
        for power in (0.8, 0.9):
            one = cost(effect, power=power)
            print(
                f"{name:26}{power:>10.0%}{one.fixed:>10,}{one.mean:>10,.0f}{one.mean / one.fixed:>10.2f}"
                f"{one.most:>10,.0f}{one.untruncated / one.fixed:>10.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
