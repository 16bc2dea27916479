"""Writes docs/backbones.md from the backbones themselves: `make docs`. A test holds the file against them."""

from __future__ import annotations

from pathlib import Path

import yaml

from ray_cxr.model.backbones import Backbone, describe

JOBS = Path(__file__).resolve().parents[1] / "jobs"

HEAD = """# Backbones

`model.backbone` takes any classifier of timm by its name (`ray-cxr doctor --backbones PATTERN` lists them, and of a
whole name tells what stands below). These have a job file of their own. Parameters are with the classifier of 14 findings;
multiply-adds (MACs) are of one film of the side that the backbone was pretrained with. Made by `make docs`.

| job | backbone | parameters | MACs | own side | films that it takes | stages |
|---|---|---|---|---|---|---|
"""
STAGES = """
## Stages for `freeze_depth`

timm's coarse groups, counted from the stem: `freeze_depth: 2` freezes the first two, `head` all but the classifier. A stage
goes by the name of its first part (with `features.denseblock1` goes the transition after it, with the last
blocks of an EfficientNet its last convolution). `model.unfreeze: {3: 2, 6: 0}` thaws by epoch.

| backbone | stages |
|---|---|
"""


def jobs() -> dict[str, str]:
    """Name of a shipped job → backbone."""
    found = {}
    for path in sorted(JOBS.glob("nih-*.yaml")):
        found[path.stem] = str(yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["backbone"])
    return found


def row(job: str, b: Backbone) -> str:
    """A line of the first table."""
    numbers = f"{b.parameters / 1e6:.1f} M | {b.macs / 1e9:.2f} G | {b.own_px} px"
    return f"| [{job}](../jobs/{job}.yaml) | `{b.name}` | {numbers} | {b.sizes()} | {len(b.stages)} |\n"


def stages_row(b: Backbone) -> str:
    """A line of the second table."""
    return f"| `{b.name}` | {', '.join(f'{n} {title}' for n, title in enumerate(b.stages, 1))} |\n"


def render() -> str:
    """The whole page."""
    described = [(job, describe(name)) for job, name in jobs().items()]
    return "".join(
        [HEAD, *(row(job, b) for job, b in described), STAGES, *(stages_row(b) for _, b in described)]
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(render(), encoding="utf-8")
