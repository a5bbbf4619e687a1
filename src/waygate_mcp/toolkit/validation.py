"""Arguments against schemas: compiled once, checked quickly, explained at length only when wrong.

Knows `jsonschema-rs` and how to word its findings for a model. Refuses to fetch anything: a `$ref`
that leads out of the schema is an error when the schema is compiled.
Spec: 2026-07-28 basic/index, "JSON Schema Usage"; server/tools, "Error Handling".
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jsonschema_rs
from jsonschema_rs import ValidationError, ValidationErrorKind

from waygate_mcp.toolkit.encoding import encode_text
from waygate_mcp.toolkit.failures import RegistrationError

__all__ = ["compile_schema", "explain"]

_MAX_FAULTS = 10
_MAX_SHOWN = 80
_MAX_SENTENCE = 400


def _refuse_to_fetch(uri: str) -> NoReturn:
    raise RegistrationError(f"the schema refers to {uri}, and nothing is fetched: use $defs")


def compile_schema(schema: Mapping[str, Any], *, what: str) -> jsonschema_rs.Validator:
    """Compile a schema of any dialect `$schema` may name, 2020-12 where it names none.

    Raises:
        RegistrationError: it is not a schema, or refers to something outside of itself.
    """
    try:
        return jsonschema_rs.validator_for(
            dict(schema), retriever=_refuse_to_fetch, validate_formats=False
        )
    except (ValueError, jsonschema_rs.ReferencingError) as exc:
        text = str(exc).partition("\n")[0]
        raise RegistrationError(f"{what}: not a usable schema: {text}") from exc


def explain(
    validator: jsonschema_rs.Validator, schema: Mapping[str, Any], value: Any
) -> tuple[str, ...]:
    """Say what is wrong with `value`: one sentence for each fault, at most ten.

    Each names the argument, what is expected and what came, so that a model can mend its call.
    """
    faults: list[str] = []
    for error in validator.iter_errors(value):
        if len(faults) == _MAX_FAULTS:
            faults.append("there are more faults")
            break
        faults.extend(_clip(one, _MAX_SENTENCE) for one in _sentences(error, schema))
    return tuple(dict.fromkeys(faults))


def _sentences(error: ValidationError, schema: Mapping[str, Any]) -> list[str]:
    """Word one finding; unknown members give one sentence each."""
    path = _path(error.instance_path)
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.Required):
        return [_missing(error, kind.property, schema)]
    if isinstance(
        kind, ValidationErrorKind.AdditionalProperties | ValidationErrorKind.UnevaluatedProperties
    ):
        known = _known_names(error, schema)
        return [_unknown([*error.instance_path, name], known) for name in kind.unexpected]
    expected = _expected(kind)
    if expected is not None:
        return [f"{path}: expected {expected}, got {_shown(error.instance)}"]
    return [f"{path}: {error.message}"]


_WANTED: Mapping[type, str] = {
    ValidationErrorKind.Minimum: "a number of at least {limit}",
    ValidationErrorKind.Maximum: "a number of at most {limit}",
    ValidationErrorKind.ExclusiveMinimum: "a number greater than {limit}",
    ValidationErrorKind.ExclusiveMaximum: "a number less than {limit}",
    ValidationErrorKind.MultipleOf: "a multiple of {multiple_of}",
    ValidationErrorKind.MinLength: "a text of at least {limit} characters",
    ValidationErrorKind.MaxLength: "a text of at most {limit} characters",
    ValidationErrorKind.MinItems: "a list of at least {limit} items",
    ValidationErrorKind.MaxItems: "a list of at most {limit} items",
    ValidationErrorKind.Pattern: "a text that matches {pattern}",
}
"""Rules whose wish is one sentence with the facts of the finding in it."""


def _expected(kind: ValidationErrorKind) -> str | None:
    """Say what a rule wants, None where the library's own sentence has to do."""
    match kind:
        case ValidationErrorKind.Type(types=types):
            return " or ".join(types)
        case ValidationErrorKind.Enum(options=options):
            return "one of " + ", ".join(encode_text(option) for option in options)
        case ValidationErrorKind.Constant(expected_value=constant):
            return encode_text(constant)
        case ValidationErrorKind.AnyOf(context=context):
            return _any_of(context)
    sentence = _WANTED.get(type(kind))
    return None if sentence is None else sentence.format_map(kind.as_dict())


def _any_of(branches: Sequence[Sequence[ValidationError]]) -> str | None:
    """Join the types of branches that failed for nothing but the value's type."""
    types: list[str] = []
    for branch in branches:
        if len(branch) != 1 or not isinstance(branch[0].kind, ValidationErrorKind.Type):
            return None
        types.extend(branch[0].kind.types)
    return " or ".join(dict.fromkeys(types))


def _missing(error: ValidationError, name: str, schema: Mapping[str, Any]) -> str:
    known = _object_schema(error, schema).get("properties", {}).get(name, {})
    wanted = known.get("type") if isinstance(known, Mapping) else None
    hint = f" (expected {wanted})" if isinstance(wanted, str) else ""
    return f"{_path([*error.instance_path, name])}: required argument is missing{hint}"


def _unknown(path: Sequence[str | int], known: Sequence[str]) -> str:
    sentence = f"{_path(path)}: unknown argument"
    if near := difflib.get_close_matches(str(path[-1]), known, n=1):
        return f"{sentence}; did you mean `{near[0]}`?"
    return f"{sentence}; known are {', '.join(known)}" if known else f"{sentence}; none is known"


def _known_names(error: ValidationError, schema: Mapping[str, Any]) -> list[str]:
    return list(_object_schema(error, schema).get("properties", {}))


def _object_schema(error: ValidationError, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Walk the schema to where the rule stands; an empty mapping where a `$ref` leads elsewhere."""
    node: Any = schema
    for step in error.schema_path[:-1]:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return {}
    return node if isinstance(node, Mapping) else {}


def _path(parts: Sequence[str | int]) -> str:
    """Write `["items", 0, "name"]` as `items[0].name`, in back quotes."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"`{_clip(text, 200)}`" if text else "arguments"


def _shown(value: Any) -> str:
    return _clip(encode_text(value), _MAX_SHOWN)


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
