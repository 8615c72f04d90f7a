"""Which examples a step draws: a pure function of (seed, step), so that resuming needs no iterator state."""

import functools

import numpy as np

_PURPOSE = 0x6F72646572  # separates this stream of random numbers from others made from the same seed

_HELD_OUT = 0x68656C64  # for the part that is set aside: (_PURPOSE, s) and (_PURPOSE, s, 0) would be one stream


def draw(seed: int, step: int, batch_size: int, num_examples: int) -> tuple[np.ndarray, np.ndarray]:
  """The examples of a step's global batch, int32[batch_size], and the epoch that each belongs to, int64[batch_size].

  Position p = step * batch_size + i of the run holds example perm(seed, p // N)[p % N], where N is `num_examples`
  and perm(seed, epoch) is a permutation of all of them: in an epoch nothing is dropped or drawn twice, and a batch
  may span two epochs.
  """
  run = step * batch_size + np.arange(batch_size, dtype=np.int64)
  epochs, offsets = np.divmod(run, num_examples)
  drawn = np.empty(batch_size, np.int32)
  for epoch in np.unique(epochs):
    chosen = epochs == epoch
    drawn[chosen] = permutation(seed, int(epoch), num_examples)[offsets[chosen]]
  return drawn, epochs


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
  """The order of an epoch, int32[num_examples]. Philox is the same on every machine."""
  generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_PURPOSE, seed, epoch))))
  order = generator.permutation(num_examples).astype(np.int32)
  order.flags.writeable = False
  return order


def augmentation(seed: int, epoch: int, example: int) -> np.random.Generator:
  """The random numbers of one example in one epoch. A counter-based generator: made in microseconds, no state kept."""
  return np.random.Generator(np.random.Philox(key=(_PURPOSE, seed), counter=(0, 0, epoch, example)))


def held_out(split_seed: int, part: float, labels: np.ndarray) -> np.ndarray:
  """bool[n]: the training examples that are set aside for validation, drawn by `split_seed`.

  `part` of all of them, and of each class as near to it as whole examples allow.
  """
  generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_HELD_OUT, split_seed))))
  place = generator.permutation(len(labels))  # of each example in a draw of all of them
  classes, counts = np.unique(labels, return_counts=True)
  shares = part * counts
  chosen = np.floor(shares + 1e-9).astype(int)
  rest = round(part * len(labels)) - int(chosen.sum())
  chosen[np.argsort(chosen - shares, kind='stable')[: max(rest, 0)]] += 1  # the largest fractions
  is_held = np.zeros(len(labels), bool)
  for label, count in zip(classes, chosen, strict=True):
    members = np.flatnonzero(labels == label)
    is_held[members[np.argsort(place[members])[:count]]] = True
  return is_held


def held_out_by_position(split_seed: int, part: float, num_examples: int) -> np.ndarray:
  """bool[num_examples]: the same as version 1.0 drew it, from the stream of numbers that also orders epoch 0."""
  generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((_PURPOSE, split_seed))))
  is_held = np.zeros(num_examples, bool)
  is_held[generator.permutation(num_examples)[: round(part * num_examples)]] = True
  return is_held


def passes(batch_size: int, num_examples: int) -> list[np.ndarray]:
  """Batches of an evaluation: int32[batch_size] each; every example once, in order; the last one is padded with -1."""
  padded = np.full(-(-num_examples // batch_size) * batch_size, -1, np.int32)
  padded[:num_examples] = np.arange(num_examples)
  return list(padded.reshape(-1, batch_size))
