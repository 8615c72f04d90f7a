"""Checks a value against the part of JSON schema that `jobset_schema.json` uses."""

import json
import pathlib

SCHEMA = json.loads((pathlib.Path(__file__).parent / 'jobset_schema.json').read_text())
TYPES = {'object': dict, 'array': list, 'string': str, 'boolean': bool, 'integer': int, 'number': (int, float)}


def faults(value, schema=SCHEMA, place='JobSet'):
  """What does not fit, one sentence each."""
  if '$ref' in schema:
    return faults(value, SCHEMA['$defs'][schema['$ref'].rsplit('/', 1)[1]], place)
  if 'anyOf' in schema:
    found = [faults(value, choice, place) for choice in schema['anyOf']]
    return [] if [] in found else found[0]
  kind = TYPES.get(schema.get('type'), object)
  if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and kind is not object):
    return [f'{place} is {value!r}, not of type {schema["type"]}']
  if value not in schema.get('enum', [value]):
    return [f'{place} is {value!r}, not one of {schema["enum"]}']
  if isinstance(value, list):
    return [fault for i, item in enumerate(value) for fault in faults(item, schema.get('items', {}), f'{place}[{i}]')]
  if not isinstance(value, dict):
    return []
  found = [f'{place}.{name} is missing' for name in schema.get('required', []) if name not in value]
  for name, item in value.items():
    inner = schema.get('properties', {}).get(name, schema.get('additionalProperties', True))
    if inner is False:
      found.append(f'{place}.{name} is unknown')
    elif isinstance(inner, dict):
      found += faults(item, inner, f'{place}.{name}')
  return found
