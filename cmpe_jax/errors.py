"""The exceptions that `python -m cmpe_jax...` turns into an exit code and one sentence."""

from collections.abc import Iterator


class UserError(ValueError):
  """A wrong input. The message names the thing, its value, and the fix. Exit code 2."""


class Interrupted(RuntimeError):
  """The run was stopped from outside and can go on with the same command. Exit code 75."""


def chain(error: BaseException | None) -> Iterator[BaseException]:
  """An exception and those that it came from."""
  seen: list[BaseException] = []
  while error is not None and error not in seen:
    seen.append(error)
    yield error
    error = error.__cause__ or error.__context__


def check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
  """Raises `UserError` with the list of allowed values unless `value` is one of them."""
  if value not in allowed:
    listed = ', '.join(repr(choice) for choice in allowed)
    raise UserError(f'{name}={value!r} is not known. Choose one of: {listed}.')


def check_range(name: str, value: float, low: float | None = None, high: float | None = None) -> None:
  """Raises `UserError` unless low <= value <= high (either bound may be None; nan always fails)."""
  if (low is not None and not value >= low) or (high is not None and not value <= high):
    bounds = f'at least {low}' if high is None else f'at most {high}' if low is None else f'from {low} to {high}'
    raise UserError(f'{name}={value!r} is out of range: it must be {bounds}.')
