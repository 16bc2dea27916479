"""The state of a film while it is drawn: layers that the findings change in turn."""

from dataclasses import dataclass

from ray_cxr.films.phantom_canvas import Canvas, Mask
from ray_cxr.labels.phantom_anatomy import Anatomy


@dataclass
class Scene:
    """All layers are [H, W] float32; density is in units where lung to heart is about 0.5."""

    canvas: Canvas
    anatomy: Anatomy
    """With the film's breath, so that its domes are where they are drawn."""
    lungs: Mask
    """The two lung fields as outlined by chest wall and diaphragm, 0..1; no finding changes them."""
    air: Mask
    """Share of the ray's lung path that is air: 1 in a healthy lung, 0 in fluid."""
    vessels: Mask
    """Strength of the vessel markings, 0..1; shows only where there is air around them."""
    added: Mask
    """What else adds density: lesions, pleura, metal. Below zero: what takes it away."""
