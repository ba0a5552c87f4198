"""The former place of `WithBaseline`, which configs and checkpoints of earlier versions name; to be removed."""

from deepdft.models.with_baseline import WithBaseline as OnBaseline

__all__ = ["OnBaseline"]
