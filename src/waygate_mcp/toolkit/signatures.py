"""Python signatures read once: parameters, their schemas, and what a call has to convert.

Knows annotations, docstrings and Pydantic, which is used while registering only. Refuses to know MCP:
it gives parameters and JSON schemas, and the entries decide what they are for.
"""

from __future__ import annotations

import copy
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import msgspec
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from waygate_mcp.toolkit.context import Context
from waygate_mcp.toolkit.docstrings import Doc, parse_docstring
from waygate_mcp.toolkit.failures import RegistrationError
from waygate_mcp.toolkit.questions import InputRequired

__all__ = [
    "Conversion",
    "MirroredHeader",
    "Parameter",
    "Signature",
    "UntitledSchema",
    "is_model",
    "output_type",
    "read_signature",
]

Converter = Callable[[Any], Any]
_PLAIN_TYPES = (str, float, bool, dict, list, types.NoneType, Any, object)


class MirroredHeader(msgspec.Struct, frozen=True):
    """Marks a parameter whose value modern clients repeat in the header `Mcp-Param-{name}`.

    Written `Annotated[str, MirroredHeader("Region")]`; only `str`, `int` and `bool` parameters can
    be mirrored. Proxies can route by the header; the value in the body is what counts.
    Spec: 2026-07-28 server/tools, "x-mcp-header".
    """

    name: str


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a function that comes from the client.

    `key` is what clients call it: `name`, unless a `Field(alias=…)` says otherwise. `convert` turns
    the JSON value into what the annotation says; None where it already is that. `default` is what
    stands in the signature; where that is a `Field(…)`, `fill` gives the value it stands for.
    """

    name: str
    key: str
    annotation: Any
    is_required: bool
    default: Any
    description: str | None
    convert: Converter | None
    fill: Callable[[], Any] | None = None


class Conversion(msgspec.Struct, frozen=True):
    """How JSON values become a function's arguments; false where they are that already.

    `converters` go by the parameters' keys; `fills` give defaults that Python cannot fill in,
    because a `Field(…)` stands in their place. `names` are those of parameters that have another
    key, and `hidden` the names by which no client can give anything.
    """

    converters: tuple[tuple[str, Converter], ...] = ()
    fills: tuple[tuple[str, Callable[[], Any]], ...] = ()
    names: Mapping[str, str] = {}
    hidden: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Tell whether anything is to be done."""
        return bool(self.converters or self.fills or self.names)

    def apply(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Give the arguments.

        Raises:
            pydantic.ValidationError: a value fits the schema and still not the type.
        """
        arguments = dict(values)
        for key, convert in self.converters:
            if key in arguments:
                arguments[key] = convert(arguments[key])
        for key, fill in self.fills:
            if key not in arguments:
                arguments[key] = fill()
        if not self.names:
            return arguments
        return {
            self.names.get(key, key): value
            for key, value in arguments.items()
            if key not in self.hidden
        }


class Signature(msgspec.Struct, frozen=True):
    """A function as the toolkit sees it.

    `context` is the name of the parameter that gets the Context, None where there is none.
    `takes_any` says that it has `**keywords`. `returns` is the annotation of its result,
    `inspect.Signature.empty` where there is none.
    """

    function: Callable[..., Any]
    is_async: bool
    parameters: tuple[Parameter, ...]
    context: str | None
    takes_any: bool
    returns: Any
    doc: Doc

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def keys(self) -> tuple[str, ...]:
        """What clients call the parameters, in the same order."""
        return tuple(parameter.key for parameter in self.parameters)

    @property
    def conversion(self) -> Conversion:
        """What has to be done to valid arguments before the function can have them."""
        return Conversion(
            tuple((one.key, one.convert) for one in self.parameters if one.convert is not None),
            tuple((one.key, one.fill) for one in self.parameters if one.fill is not None),
            {one.key: one.name for one in self.parameters if one.key != one.name},
            frozenset(self.names) - frozenset(self.keys),
        )

    def input_schema(self) -> dict[str, Any]:
        """Build the JSON schema of the parameters, an object that allows no others.

        Raises:
            RegistrationError: an annotation has no JSON schema.
        """
        fields: dict[str, Any] = {
            one.key: (
                one.annotation,
                ... if one.default is inspect.Parameter.empty else one.default,
            )
            for one in self.parameters
        }
        try:
            # Aliases keep Pydantic from refusing names it wants for itself, such as `model_id`.
            renamed: dict[str, Any] = {
                f"argument_{index}": (
                    Annotated[annotation, Field(alias=key)],
                    default,
                )
                for index, (key, (annotation, default)) in enumerate(fields.items())
            }
            model = create_model("Arguments", __config__=_SCHEMA_CONFIG, **renamed)
            schema = model.model_json_schema(schema_generator=UntitledSchema)
        except (PydanticUserError, PydanticSchemaGenerationError) as exc:
            raise RegistrationError(
                f"{self.function.__qualname__}: an annotation has no JSON schema: "
                f"{str(exc).partition(chr(10))[0]}"
            ) from exc
        schema.pop("title", None)
        schema.setdefault("properties", {})
        for one in self.parameters:
            if one.description is not None:
                schema["properties"][one.key].setdefault("description", one.description)
        if not self.takes_any:
            schema["additionalProperties"] = False
        return schema


_SCHEMA_CONFIG = ConfigDict(arbitrary_types_allowed=False)


class UntitledSchema(GenerateJsonSchema):
    """Leaves out the titles Pydantic makes from names: they tell a model nothing and cost tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Say no for every field; titles an author wrote are kept elsewhere."""
        return False


def read_signature(function: Callable[..., Any]) -> Signature:
    """Read a function, method or callable object.

    Raises:
        RegistrationError: positional-only parameters, `*args`, two contexts, or annotations that
            cannot be evaluated.
    """
    target = inspect.unwrap(function)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise RegistrationError(f"{name}: a generator has no single result; return a list")
    hinted = target.func if isinstance(target, partial) else target
    if not inspect.isroutine(hinted):
        hinted = type(hinted).__call__
    try:
        hints = typing.get_type_hints(hinted, include_extras=True)
    except Exception as exc:
        raise RegistrationError(
            f"{name}: its annotations cannot be evaluated ({exc}); names used in annotations have to "
            "be defined at the top of the module"
        ) from exc
    doc = parse_docstring(inspect.getdoc(target) or "")
    parameters: list[Parameter] = []
    context: str | None = None
    takes_any = False
    for one in inspect.signature(target).parameters.values():
        annotation = hints.get(one.name, Any)
        if one.kind is one.VAR_KEYWORD:
            takes_any = True
        elif one.kind in (one.POSITIONAL_ONLY, one.VAR_POSITIONAL):
            raise RegistrationError(f"{name}: `{one}` cannot be given by name")
        elif _is_context(annotation):
            if context is not None:
                raise RegistrationError(f"{name}: two parameters of type Context")
            context = one.name
        else:
            parameters.append(_parameter(name, one, annotation, doc))
    keys = [one.key for one in parameters]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise RegistrationError(f"{name}: two parameters that clients call `{twice}`")
    returns = hints.get("return", inspect.Signature.empty)
    is_async = any(inspect.iscoroutinefunction(one) for one in (function, target, hinted))
    return Signature(function, is_async, tuple(parameters), context, takes_any, returns, doc)


def _is_context(annotation: Any) -> bool:
    """Tell whether an annotation is Context, alone or as `Context | None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_is_context(one) for one in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, Context)


def _parameter(where: str, one: inspect.Parameter, annotation: Any, doc: Doc) -> Parameter:
    default = one.default
    key = _key(where, one.name, annotation, default)
    annotation = _without_alias(annotation)
    is_required = default is one.empty
    described = _described(annotation)
    whole = annotation
    fill = None
    if isinstance(default, FieldInfo):
        default = _nameless(default)
        # `name: str = Field(default=…, description=…)`: what counts stands inside.
        whole = Annotated[annotation, default]
        described = default.description or described
        is_required = default.is_required()
        if not is_required:
            fill = partial(default.get_default, call_default_factory=True)
    return Parameter(
        name=one.name,
        key=key,
        annotation=_with_headers(annotation),
        is_required=is_required,
        default=default,
        description=described or doc.parameters.get(one.name) or doc.parameters.get(key),
        convert=_converter(where, one.name, whole),
        fill=fill,
    )


def _key(where: str, name: str, annotation: Any, default: Any) -> str:
    """Give what clients call a parameter: the alias of a `Field(…)`, the one in the default first."""
    fields = [one for one in (default, *_metadata(annotation)[::-1]) if isinstance(one, FieldInfo)]
    for field in fields:
        alias = field.validation_alias or field.alias
        if isinstance(alias, str):
            return alias
        if alias is not None:
            raise RegistrationError(f"{where}: parameter `{name}` needs one alias, a text")
    return name


def _without_alias(annotation: Any) -> Any:
    """Take aliases out of an annotation: its key says them, and a type alone has no name."""
    metadata = _metadata(annotation)
    if not any(isinstance(one, FieldInfo) for one in metadata):
        return annotation
    kept = [_nameless(one) if isinstance(one, FieldInfo) else one for one in metadata]
    return Annotated[(get_args(annotation)[0], *kept)]


def _nameless(field: FieldInfo) -> FieldInfo:
    nameless = copy.copy(field)
    nameless.alias = nameless.validation_alias = nameless.serialization_alias = None
    return nameless


def _metadata(annotation: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = getattr(annotation, "__metadata__", ())
    return found


def _described(annotation: Any) -> str | None:
    """Give the text in `Annotated[…, Field(description=…)]` or `Annotated[…, "text"]`."""
    for metadata in getattr(annotation, "__metadata__", ()):
        if isinstance(metadata, str):
            return metadata
        if isinstance(metadata, FieldInfo) and metadata.description:
            return metadata.description
    return None


def _with_headers(annotation: Any) -> Any:
    """Turn MirroredHeader into the schema member it stands for."""
    for metadata in getattr(annotation, "__metadata__", ()):
        if isinstance(metadata, MirroredHeader):
            extra = Field(json_schema_extra={"x-mcp-header": metadata.name})
            return Annotated[annotation, extra]
    return annotation


def _converter(where: str, name: str, annotation: Any) -> Converter | None:
    """Choose how a value of a parameter is converted: not at all where it is plain JSON."""
    if _is_plain(annotation):
        return None
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if bare is int and _is_plain_metadata(annotation):
        return _whole
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        adapter.rebuild(raise_errors=True)  # names it cannot resolve are found now, not in a call
        return adapter.validate_python
    except (PydanticUserError, PydanticSchemaGenerationError, NameError) as exc:
        raise RegistrationError(
            f"{where}: parameter `{name}` has a type that cannot come from JSON: "
            f"{str(exc).partition(chr(10))[0]}"
        ) from exc


def _whole(value: Any) -> Any:
    """Make an int of 5.0, which JSON Schema calls an integer too."""
    return int(value) if value.__class__ is float else value


def _is_plain(annotation: Any) -> bool:
    """Tell whether JSON values that fit the schema are of this type already.

    Integers are not: 5.0 fits `integer`.
    """
    if any(annotation is plain for plain in _PLAIN_TYPES) or annotation is None:
        return True
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_plain_metadata(annotation) and _is_plain(get_args(annotation)[0])
    if origin is Literal:
        return not any(isinstance(one, enum.Enum) for one in get_args(annotation))
    if origin in (Union, types.UnionType, list, dict, Sequence, Mapping):
        wanted = (list, dict, Sequence, Mapping, Union, types.UnionType)
        return origin in wanted and all(_is_plain(one) for one in get_args(annotation))
    return _is_plain_typed_dict(annotation)


def _is_plain_typed_dict(annotation: Any) -> bool:
    """Tell whether it is a TypedDict of nothing but plain members."""
    if not hasattr(annotation, "__required_keys__"):  # of `typing` or of its backport
        return False
    try:
        members = typing.get_type_hints(annotation, include_extras=True)
    except NameError:
        return False
    return all(_is_plain(one) for one in members.values())


def _is_plain_metadata(annotation: Any) -> bool:
    """Tell whether metadata only describe and bound: the schema has checked bounds already."""
    for metadata in getattr(annotation, "__metadata__", ()):
        if isinstance(metadata, MirroredHeader | str) or _is_bound(metadata):
            continue
        if not isinstance(metadata, FieldInfo):
            return False
        # What Pydantic keeps beyond bounds (validators, discriminators) may change the value.
        if metadata.discriminator is not None or not all(map(_is_bound, metadata.metadata)):
            return False
    return True


def _is_bound(metadata: Any) -> bool:
    """Tell whether metadata are a bound that JSON Schema can say."""
    return isinstance(metadata, annotated_types.BaseMetadata) and not isinstance(
        metadata, annotated_types.Predicate
    )


def output_type(returns: Any) -> Any:
    """Take `InputRequired` out of a result's annotation; it is no result."""
    if returns is InputRequired:
        return inspect.Signature.empty
    if get_origin(returns) not in (Union, types.UnionType):
        return returns
    left = tuple(one for one in get_args(returns) if one is not InputRequired)
    return Union[left] if left else inspect.Signature.empty  # noqa: UP007 - built at run time


def is_model(annotation: Any) -> bool:
    """Tell whether an annotation is a Pydantic model class."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
