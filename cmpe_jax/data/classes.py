"""Whether the labels of two datasets, or of one at two times, mean the same."""

from collections.abc import Sequence

from cmpe_jax.data import listing
from cmpe_jax.errors import UserError

SHOWN = 10  # names in a message


def same(one: Sequence[str], other: Sequence[str]) -> bool:
  """Whether they are the same names in the same order; disks write accents in one way or the other."""
  return list(map(listing.normalized, one)) == list(map(listing.normalized, other))


def check(then: Sequence[str], now: Sequence[str], name: str) -> None:
  """Compares the classes of a folder when a run began (`then`; () where an older version did not keep them) and now.

  Raises:
    UserError: they are others; the message names what is gone and what is new.
  """
  if not then or same(then, now):
    return
  known = [{listing.normalized(each) for each in given} for given in (then, now)]
  gone = [each for each in then if listing.normalized(each) not in known[1]]
  new = [each for each in now if listing.normalized(each) not in known[0]]
  said = [f'{count} {what} ({_some(given)})' for what, given in (('gone', gone), ('new', new)) if (count := len(given))]
  raise UserError(
    f'dataset={name!r} has other classes than when the run began: {", ".join(said) or "they are in another order"}. '
    'Make them as they were, or train anew in another --workdir.'
  )


def _some(names: Sequence[str]) -> str:
  return ', '.join(names[:SHOWN]) + ', ...' * (len(names) > SHOWN)
