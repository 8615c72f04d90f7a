"""Runs of the same recipe, from however many files and machines."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections

from cmpe_jax import config as configuration
from cmpe_jax.data import datasets
from cmpe_jax.errors import UserError
from cmpe_jax.tools.shared import results, rows, variants
from cmpe_jax.tools.shared.results import Content, Result


@dataclasses.dataclass
class Gathered:
  """All runs of one recipe.

  Attributes:
    config: the name of its configuration.
    recipe: every key; `varied` ones and the seed say nothing.
    identity: `results.identity` of it.
    varied: the keys that the variants change.
    variants: {name: {key: value}}.
    images: of the test split.
    parameters: of each variant.
    seeds: that shall be run.
    runs: by variant and seed.
    files: that they come from.
  """

  config: str
  recipe: Content
  identity: Content
  varied: list[str]
  variants: dict[str, dict[str, Any]]
  images: int
  parameters: dict[str, int] = dataclasses.field(default_factory=dict)
  seeds: set[int] = dataclasses.field(default_factory=set)
  runs: dict[str, dict[int, Result]] = dataclasses.field(default_factory=dict)
  files: list[pathlib.Path] = dataclasses.field(default_factory=list)

  def add(self, path: pathlib.Path, content: Content) -> None:
    """Takes the runs of a file of this recipe. Raises `UserError`: it contradicts another one."""
    for name, overrides in content['variants'].items():
      if self.variants.setdefault(name, overrides) != overrides:
        raise UserError(f'{path}: {name} is {overrides}, but {self.variants[name]} in {self.files[0]}: rename one.')
      self.runs.setdefault(name, {})
    for run in content['runs']:
      name, seed = run['variant'], run['seed']
      other = self.runs[name].setdefault(seed, run)
      if not results.same(run, other):
        raise UserError(
          f'{path}: {name} with seed {seed} has an accuracy of {run["accuracy"]}, but one of {other["accuracy"]} in '
          f'{" or ".join(map(str, self.files))}: a seed counts once, so run others (--config.seed), or remove one.'
        )
    self.parameters |= {row['name']: row['parameters'] for row in content['rows']}
    self.seeds |= set(content['seeds'])
    self.files.append(path)

  @property
  def references(self) -> list[str]:
    """What the variants are compared with."""
    return rows.references(self.variants)

  def rows(self) -> list[rows.Row]:
    """Means and intervals, computed again from the figures of every run; those in the files are not looked at."""
    return rows.rows(self.runs, self.references, self.parameters)

  def errors(self, overrides: dict[str, Any]) -> list[float]:
    """The test errors, in percent, of the variant that changes just that."""
    name = next((name for name, own in self.variants.items() if own == overrides), '')
    return [100 * (1 - run['accuracy']) for _, run in sorted(self.runs.get(name, {}).items())]

  def values(self, key: str) -> dict[str, Any]:
    """The value of a key of the configuration in each variant, by name."""
    return variants.values(configuration.flatten(configuration.from_plain(self.recipe)), self.variants, key)

  def changes(self) -> dict[str, Any]:
    """What is different from the configuration's file, by key."""
    own = identity(configuration.load(self.config), self.varied)
    return {key: value for key, value in self.identity.items() if value != own[key]}


def identity(config: ml_collections.ConfigDict, varied: list[str]) -> Content:
  """`results.identity` of a configuration that is not resolved yet."""
  dataset = datasets.describe(config)
  return results.identity(results.recipe(dataset.resolve(config), dataset), varied)


def gather(paths: Sequence[pathlib.Path]) -> list[Gathered]:
  """All files, by recipe, in the order of the configurations' names.

  Raises:
    UserError: a file that cannot be, see `results.load`; two that contradict each other; a configuration that is not
      in configs/.
  """
  found: list[Gathered] = []
  for path in paths:
    content = results.load(path)
    name, varied = content['config'], content['varied']
    try:
      configuration.find(name)
    except UserError as error:
      raise UserError(f'{path} is of a configuration that is not here: {error}') from error
    own = results.identity(content['recipe'], varied)
    same = [each for each in found if (each.config, each.varied, each.identity) == (name, varied, own)]
    if not same:
      new = Gathered(name, content['recipe'], own, varied, {}, content['test_images'])
      found.append(new)
      same = [new]
    same[0].add(path, content)
  return sorted(found, key=lambda each: (each.config, str(each.files[0])))
