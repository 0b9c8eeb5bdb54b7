"""The table and the plots of what was measured."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from tests.simulation.swarm_model.cases import Case, Key

COLUMNS = (
    "case",
    "client",
    "seeds",
    "time / least",
    "worst",
    "seeder's copies",
    "duplicates, most",
    "of all, most",
    "complete",
)


def table(cases: tuple[Case, ...], done: dict[Key, dict[str, Any]]) -> str:
    """One row for each case and client, as Markdown."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for case in cases:
        for client in ("swarm", "plain"):
            found = [
                out for (name, who, _), out in sorted(done.items()) if (name, who) == (case.name, client)
            ]
            if found:
                rows.append(_row(case, client, found))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(case: Case, client: str, found: list[dict[str, Any]]) -> tuple[str, ...]:
    extras = {key: median(out["extra"][key] for out in found) for key in found[0]["extra"]}
    words = "".join(f"; {key} {value:.2f}" for key, value in extras.items())
    return (
        f"{case.name} ({case.leechers} × {case.pieces}){words}",
        client,
        str(len(found)),
        f"{median(out['ratio'] for out in found):.3f}",
        f"{max(out['ratio'] for out in found):.3f}",
        f"{median(out['seeder'] for out in found):.2f}",
        f"{100 * max(out['wasted'] for out in found):.2f} %",
        f"{100 * max(out['wasted_by_all'] for out in found):.2f} %",
        f"{sum(out['complete'] for out in found)} of {len(found)}",
    )


def plots(cases: tuple[Case, ...], done: dict[Key, dict[str, Any]], folder: Path) -> list[Path]:
    """Draw what the first case's first seed did, and the copies and the waste of all cases."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    first = {client: done.get((cases[0].name, client, 0)) for client in ("swarm", "plain")}
    figure, axes = plt.subplots(2, 2, figsize=(10, 7))
    for color, (client, out) in zip(("C0", "C1"), first.items(), strict=True):
        if out is None:
            continue
        steps = [step / 50 for step in range(len(out["progress"]))]
        axes[0][0].plot(steps, out["progress"], color, label=client)
        shares = [(n + 1) / len(out["finished"]) for n in range(len(out["finished"]))]
        axes[0][1].step([0, *out["finished"]], [0, *shares], color, where="post", label=client)
        axes[1][0].plot(sorted(up for up, _ in out["up_down"]), color, label=f"{client}, sent")
        axes[1][0].plot(sorted(down for _, down in out["up_down"]), f"{color}:", label=f"{client}, received")
    titles = ("pieces stored", "leechers that are done", "copies sent and received, each leecher")
    for axis, title in zip((axes[0][0], axes[0][1], axes[1][0]), titles, strict=True):
        axis.set_title(title)
        axis.legend()
    for axis in axes[0]:
        axis.axvline(1.0, color="grey", linewidth=0.8)
        axis.set_xlabel("time / least possible")
    _bars(axes[1][1], cases, done)
    figure.suptitle(f"{cases[0].name}, {cases[0].pieces} pieces")
    figure.tight_layout()
    path = folder / "simulation.png"
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return [path]


def _bars(axis: Any, cases: tuple[Case, ...], done: dict[Key, dict[str, Any]]) -> None:
    """Copies that the seeder sent, and the worst waste in per cent."""
    names = [case.name for case in cases]
    for offset, client in ((-0.2, "swarm"), (0.2, "plain")):
        found = [[out for (n, who, _), out in done.items() if (n, who) == (name, client)] for name in names]
        copies = [median(out["seeder"] for out in outs) if outs else 0.0 for outs in found]
        places = [number + offset for number in range(len(names))]
        axis.barh(places, copies, height=0.35, label=f"{client}, copies")
        waste = [100 * max(out["wasted"] for out in outs) if outs else 0.0 for outs in found]
        axis.plot(waste, places, "x", label=f"{client}, % duplicates")
    axis.set_yticks(range(len(names)), names, fontsize=6)
    axis.invert_yaxis()
    axis.set_title("seeder's copies, and the most duplicates")
    axis.legend(fontsize=6)
