"""What a model starts from: weights are read, renamed and reshaped where that is known, loaded, and reported on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ray_cxr.errors import InputError
from ray_cxr.model.adapt import adapt_shapes
from ray_cxr.model.build import ChestModel
from ray_cxr.model.freeze import classifier_names
from ray_cxr.model.names import timm_names
from ray_cxr.model.sources import Source, read_source

SMALLEST_FRACTION = 0.9
"""Of the trunk's parameters: with less than this loaded, the file is for another model."""
_NAMED_IN_A_SENTENCE = 4


@dataclass(frozen=True)
class Loaded:
    """What came from the weights, and what did not; kept whole in `environment.json`."""

    source: str
    """`efficientnet-lite0`, `imagenet`, `file` or `run`."""
    sha256: str
    tensors: int
    """Loaded, parameters and buffers."""
    fraction: float
    """Loaded of the trunk's parameters, by their count."""
    classifier: bool
    """Whether the classifier was loaded too."""
    missing: list[str]
    """Names of the model's tensors that were not loaded, the classifier's too."""
    other_shape: list[str]
    """`name [its shape] instead of [the model's]`."""
    unused: list[str]
    """Names, as in the file, that the model has no place for."""
    notes: list[str]
    """What was changed to fit."""
    trained_on: str | None = None
    """Fingerprint of the data set that one of our own runs was trained on."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def origin(self) -> dict[str, Any]:
        """What `model.json` keeps of it."""
        return {name: getattr(self, name) for name in ("source", "sha256", "fraction", "trained_on")}

    def sentence(self) -> str:
        """All in one line, long lists cut."""
        parts = [f"weights: {self.tensors} tensors loaded ({self.fraction:.1%} of the trunk)", *self.notes]
        if not self.classifier:
            parts.append("the classifier is new")
        lists = {
            "not loaded": self.missing,
            "of another shape": self.other_shape,
            "without a place": self.unused,
        }
        parts += [f"{what}: {_listed(names)}" for what, names in lists.items() if names]
        return "; ".join(parts)


def load_weights(
    model: ChestModel, weights: str, backbone: str, findings: Sequence[str] = ()
) -> Loaded | None:
    """Loads `weights` into a model; None for `none`.

    The classifier comes with a run of the same findings. A file does not say what its outputs are, so that its
    classifier is left out. Raises InputError (not there, not fitting) and RefusedError (a pickle that holds code).
    """
    if weights == "none":
        return None
    source = read_source(weights, backbone)
    _refuse_not_finite(source, weights)
    network = model.network
    own, classifier = network.state_dict(), classifier_names(network)
    notes = _check_run(source, backbone, findings, weights)
    named = timm_names(source.tensors, own, classifier)
    tensors, changes = adapt_shapes(named, network, model.normalisation)
    skipped = set() if _classifier_fits(source, findings) else classifier
    fitting = {n: t for n, t in tensors.items() if n in own and own[n].shape == t.shape and n not in skipped}
    trunk = {n: p.numel() for n, p in network.named_parameters() if n not in classifier}
    loaded = Loaded(
        source=source.kind,
        sha256=source.sha256,
        tensors=len(fitting),
        fraction=sum(count for n, count in trunk.items() if n in fitting) / max(sum(trunk.values()), 1),
        classifier=classifier <= set(fitting),
        missing=sorted(set(own) - set(fitting)),
        other_shape=[
            f"{n} {list(t.shape)} instead of {list(own[n].shape)}"
            for n, t in tensors.items()
            if n in own and t.shape != own[n].shape and n not in classifier
        ],
        unused=[n for n in tensors if n not in own],
        notes=notes + changes,
        trained_on=source.card.fingerprint if source.card is not None else None,
    )
    _refuse_misfit(loaded, weights, backbone)
    network.load_state_dict(fitting, strict=False)
    return loaded


def _refuse_not_finite(source: Source, weights: str) -> None:
    broken = [n for n, t in source.tensors.items() if t.is_floating_point() and not t.isfinite().all()]
    if broken:
        raise InputError(
            f"model.weights: {weights!r} holds numbers that are not finite, in {len(broken)} of {len(source.tensors)} tensors "
            f"(first {broken[0]}); the file is damaged, or comes from a training that went astray: use another."
        )


def _check_run(source: Source, backbone: str, findings: Sequence[str], weights: str) -> list[str]:
    """Refuses a run of another backbone; says what is done about its findings."""
    if source.card is None:
        return []
    if source.card.backbone != backbone:
        raise InputError(
            f"model.weights: the run {weights!r} has the backbone {source.card.backbone}, but model.backbone is "
            f"{backbone!r}; use model.backbone={source.card.backbone}."
        )
    if _classifier_fits(source, findings):
        return ["the classifier too, for the findings are the same"]
    return [f"the run has other findings ({_listed(source.card.findings)})"]


def _classifier_fits(source: Source, findings: Sequence[str]) -> bool:
    if source.card is not None:
        return source.card.findings == list(findings)
    return source.kind != "file"


def _refuse_misfit(loaded: Loaded, weights: str, backbone: str) -> None:
    if loaded.fraction >= SMALLEST_FRACTION:
        return
    lists = {"of another shape": loaded.other_shape, "not in the file": loaded.missing}
    detail = "; ".join(f"{what}: {_listed(names)}" for what, names in lists.items() if names)
    raise InputError(
        f"model.weights: {weights!r} fits only {loaded.fraction:.0%} of {backbone} (at least {SMALLEST_FRACTION:.0%} is "
        f"needed; {detail}); use the backbone that the weights were made for."
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_IN_A_SENTENCE
    return ", ".join(names[:_NAMED_IN_A_SENTENCE]) + (f" and {more} more" if more > 0 else "")
