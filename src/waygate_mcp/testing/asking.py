"""The part of the fixture that asks: forms, sampling, roots, in both styles.

Some tools await an answer (`await ctx.elicit(…)`), others return InputRequired and are called again, so
that both are exercised with clients of both eras. No tool looks at the era.
"""

from __future__ import annotations

from typing import Annotated, Any

from waygate_mcp import (
    Context,
    Elicit,
    Elicitation,
    InputRequired,
    ListRoots,
    RpcError,
    Sample,
    Toolbox,
)
from waygate_mcp.toolkit.encoding import encode_text

__all__ = ["asking"]

asking = Toolbox()

_INVALID_PARAMS = -32602
_MAX_TOKENS = 100


def _text_form(name: str, description: str = "") -> dict[str, Any]:
    field = {"type": "string", **({"description": description} if description else {})}
    return {"type": "object", "properties": {name: field}, "required": [name]}


_CONFIRM_FORM = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
}
_USER_FORM = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
_DEFAULTS_FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {
            "type": "string",
            "description": "User status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "description": "Verification status", "default": True},
    },
    "required": [],
}
_OPTIONS = ["option1", "option2", "option3"]
_ENUMS_FORM = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": _OPTIONS},
        "titledSingle": {
            "type": "string",
            "oneOf": [
                {"const": "value1", "title": "First Option"},
                {"const": "value2", "title": "Second Option"},
                {"const": "value3", "title": "Third Option"},
            ],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _OPTIONS}},
        "titledMulti": {
            "type": "array",
            "items": {
                "anyOf": [
                    {"const": "value1", "title": "First Choice"},
                    {"const": "value2", "title": "Second Choice"},
                    {"const": "value3", "title": "Third Choice"},
                ]
            },
        },
    },
    "required": [],
}


def _outcome(answer: Elicitation[Any]) -> str:
    return f"action={answer.action}, content={encode_text(answer.content or {})}"


# ---------------------------------------------------------------------- awaited answers


@asking.tool(structured=False)
async def test_sampling(
    prompt: Annotated[str, "The prompt to send to the model."], ctx: Context
) -> str:
    """Ask the client's model."""
    answer = await ctx.sample(prompt, max_tokens=_MAX_TOKENS)
    return f"LLM response: {answer.text}"


@asking.tool(structured=False)
async def test_elicitation(
    message: Annotated[str, "The message to show the user."], ctx: Context
) -> str:
    """Ask the user for a name and an address."""
    answer = await ctx.elicit(message, _USER_FORM)
    return f"User response: {_outcome(answer)}"


@asking.tool(structured=False)
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask with a default for every type of field."""
    answer = await ctx.elicit("Please review and update the form fields", _DEFAULTS_FORM)
    return f"Elicitation completed: {_outcome(answer)}"


@asking.tool(structured=False)
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Ask with every way to write an enumeration."""
    answer = await ctx.elicit("Please select options from the enum fields", _ENUMS_FORM)
    return f"Elicitation completed: {_outcome(answer)}"


@asking.tool(structured=False)
async def test_missing_capability(ctx: Context) -> str:
    """Ask the client's model, which not every client has."""
    answer = await ctx.sample("Are you there?", max_tokens=_MAX_TOKENS)
    return f"Sampled: {answer.text}"


@asking.tool(structured=False)
async def test_streaming_elicitation(ctx: Context) -> str:
    """Ask the user after a first progress report."""
    await ctx.report_progress(1, 2, "About to ask")
    answer = await ctx.elicit("What is your name?", _text_form("name"), key="user_name")
    return f"Streaming elicitation completed: {_outcome(answer)}"


@asking.tool(structured=False)
async def test_input_required_result_sampling(ctx: Context) -> str:
    """Ask the client's model one question."""
    answer = await ctx.sample(
        "What is the capital of France?", max_tokens=_MAX_TOKENS, key="capital_question"
    )
    return answer.text


@asking.tool(structured=False)
async def test_input_required_result_list_roots(ctx: Context) -> str:
    """Ask for the client's roots."""
    roots = await ctx.list_roots(key="client_roots")
    return "Roots: " + ", ".join(f"{root.name or 'unnamed'} ({root.uri})" for root in roots)


@asking.tool(structured=False)
async def test_input_required_result_multi_round(ctx: Context) -> str:
    """Ask twice, the second time because of the first."""
    first = await ctx.elicit("Step 1: What is your name?", _text_form("name"), key="step1")
    if not first.is_accepted:
        return f"Stopped at step 1: {first.action}"
    second = await ctx.elicit(
        "Step 2: What is your favorite color?", _text_form("color"), key="step2"
    )
    if not second.is_accepted:
        return f"Stopped at step 2: {second.action}"
    name, color = (first.content or {}).get("name"), (second.content or {}).get("color")
    return f"{name} likes {color}."


# ---------------------------------------------------------------------- returned questions


@asking.tool(structured=False)
async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequired:
    """Ask for a name and greet."""
    answer = ctx.elicited("user_name")
    if answer is None:
        return InputRequired({"user_name": Elicit("What is your name?", _text_form("name"))})
    if not answer.is_accepted:
        return f"No name was given: {answer.action}"
    return f"Hello, {(answer.content or {}).get('name')}!"


@asking.tool(structured=False)
async def test_input_required_result_request_state(ctx: Context) -> str | InputRequired:
    """Ask for a confirmation and check that the state comes back."""
    return _confirmed(ctx, state="request-state-fixture", done="state-ok")


@asking.tool(structured=False)
async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequired:
    """Ask for a confirmation under a state that must not be altered."""
    return _confirmed(ctx, state="tampered-state-fixture", done="The state was intact: state-ok")


def _confirmed(ctx: Context, *, state: str, done: str) -> str | InputRequired:
    answer = ctx.elicited("confirm")
    if answer is None:
        return InputRequired({"confirm": Elicit("Please confirm", _CONFIRM_FORM)}, state=state)
    if ctx.state != state:
        raise RpcError(_INVALID_PARAMS, "The request state is not valid.")
    return done


@asking.tool(structured=False)
async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequired:
    """Ask for a form, a sampling and the roots in one answer."""
    name = ctx.elicited("user_name")
    greeting = ctx.sampled("greeting")
    roots = ctx.roots("client_roots")
    if name is None or greeting is None or roots is None or ctx.state is None:
        return InputRequired(
            {
                "user_name": Elicit("What is your name?", _text_form("name")),
                "greeting": Sample(messages=["Generate a greeting"], max_tokens=50),
                "client_roots": ListRoots(),
            },
            state="multiple-inputs-fixture",
        )
    who = (name.content or {}).get("name", name.action)
    return f"{greeting.text} {who}, with {len(roots)} roots."


@asking.tool(structured=False)
async def test_input_required_result_capabilities(ctx: Context) -> str | InputRequired:
    """Ask what this client can answer, and nothing else."""
    if ctx.input_responses:
        return f"Answered: {', '.join(sorted(ctx.input_responses))}"
    declared = ctx.request.capabilities
    requests: dict[str, Elicit | Sample | ListRoots] = {}
    if declared.sampling:
        question = "What is the capital of France?"
        requests["capital_question"] = Sample(messages=[question], max_tokens=_MAX_TOKENS)
    if declared.form:
        requests["user_name"] = Elicit("What is your name?", _text_form("name"))
    if declared.roots:
        requests["client_roots"] = ListRoots()
    return InputRequired(requests) if requests else "The client declared nothing to ask for."


@asking.prompt
async def test_input_required_result_prompt(ctx: Context) -> str | InputRequired:
    """A prompt that needs an answer before it can be written."""
    answer = ctx.elicited("user_context")
    if answer is None:
        form = _text_form("context")
        return InputRequired({"user_context": Elicit("What context should the prompt use?", form)})
    context = (answer.content or {}).get("context", answer.action)
    return f"Prompt with context: {context}"
