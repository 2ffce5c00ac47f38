"""The table of the self-supervised methods.

Each is a module with two protocols, ``NETWORKS`` (the name of its backbone) and ``COURSES`` (how it
is trained) for each of them, and ``build(protocol, backbone, size, recipe, blur)``: a network with
``views(images)``, ``forward(*views)`` and ``loss(*outputs)``.
"""

from fewlabels.learn.pretext import aim, mae, moco, rotation, simclr, vicreg

METHODS = {
    "simclr": simclr,
    "moco": moco,
    "aim": aim,
    "mae": mae,
    "rotation": rotation,
    "vicreg": vicreg,
}

NARROW = {"vit-b32": "vit-narrow", "aim": "aim-narrow"}
"""What protocol ``reduced`` trains in place of the source's transformers."""


def backbone_name(method: str, protocol: str) -> str:
    """The backbone of a method: its own, or in ``reduced`` what two CPU cores can train."""
    if protocol == "reduced":
        source = METHODS[method].NETWORKS["report"]
        return NARROW.get(source, source)
    return METHODS[method].NETWORKS[protocol]
