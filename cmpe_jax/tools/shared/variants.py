"""What the variants of a comparison have in common: a key may be varied, and then each has its own value."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any


def values(flat: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, Any]:
  """A key's value in each variant, by name.

  Args:
    flat: the configuration that they change, {'model.gate': 'se', ...}.
    variants: {name: {key: value}}, what each changes.
    key: of the configuration.
  """
  return {name: overrides.get(key, flat[key]) for name, overrides in variants.items()}


def epochs(given: Iterable[float]) -> str:
  """'6 epochs'; '' if they are not the same for all."""
  found = set(given)
  return counted(found.pop()) if len(found) == 1 else ''


def counted(epochs: float) -> str:
  """'6 epochs', '1 epoch', '0.5 epochs'."""
  return f'{epochs:g} epoch{"s" * (epochs != 1)}'


def weights(decays: Collection[float]) -> str:
  """What was evaluated, by the values of ema_decay."""
  if all(decays):
    return 'moving averages of the weights'
  return 'weights (their moving averages, with ema_decay)' if any(decays) else 'weights'


def images(counts: Iterable[int]) -> str:
  """'all 364 test images'; without the number if variants have other images."""
  found = set(counts)
  return f'all {found.pop():,} test images' if len(found) == 1 else 'all test images'
