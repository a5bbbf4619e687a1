"""What a relay must not do: change a value. In each pair of eras, what one end wrote is what the other end reads.

Texts are compared member by member as they are written, so that `1.10` is not `1.1` and an escape stays one. Only the
members each era has for itself are set aside (protocol.md 4), and line breaks between tokens, which an event stream
has no place for.
"""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.dialogues import LOG_LEVEL
from tests.support.json_texts import (
    NUMBERS,
    SCHEMAS,
    Text,
    members,
    objects,
    strings,
    values,
    written,
)
from tests.support.raw_ends import INFO, LISTS, MODERN, Pair, Upstream, in_every_pair, items, plain
from tests.support.scripted import Scripted
from waygate_mcp.protocol.framing import SseDecoder
from waygate_mcp.protocol.handshake import INPUT_KEY_META
from waygate_mcp.protocol.versions import REVISIONS

ERA_RESULTS = ("resultType", "ttlMs", "cacheScope", "_meta")
bounds = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# ------------------------------------------------------------------ what is written

META = objects({}, {"example.org/meta": values()})
NOTES = {"annotations": st.just('{"priority":0.50,"audience":["user"]}'), "_meta": META}
EMBEDDED = st.one_of(
    objects({"uri": strings(), "text": strings()}, {"mimeType": strings(), "_meta": META}),
    objects({"uri": strings(), "blob": st.just('"AAEC"')}, {"mimeType": strings()}),
)
BLOCKS: Text = st.one_of(
    objects({"type": st.just('"text"'), "text": strings()}, NOTES),
    objects({"type": st.just('"image"'), "data": st.just('"AA=="'), "mimeType": strings()}, NOTES),
    objects({"type": st.just('"audio"'), "data": st.just('"AA=="'), "mimeType": strings()}, NOTES),
    objects({"type": st.just('"resource"'), "resource": EMBEDDED}, NOTES),
    objects({"type": st.just('"resource_link"'), "uri": strings(), "name": strings()}, NOTES),
    objects({"type": st.just('"of a day to come"')}, NOTES),
)


def several(items: Text) -> Text:
    """A list."""
    return st.lists(items, max_size=3).map(lambda found: "[" + " , ".join(found) + "]")


RESULTS: dict[str, Text] = {
    "tools/call": objects(
        {"content": several(BLOCKS)},
        {
            "structuredContent": objects({}, {}),
            "isError": st.sampled_from(["true", "false"]),
            "_meta": META,
        },
    ),
    "prompts/get": objects(
        {"messages": several(objects({"role": st.just('"user"'), "content": BLOCKS}, {}))},
        {"description": strings(), "_meta": META},
    ),
    "resources/read": objects({"contents": several(EMBEDDED)}, {"_meta": META}),
}
PARAMS = {
    "tools/call": {"name": "entry"},
    "prompts/get": {"name": "entry"},
    "resources/read": {"uri": "test://entry"},
}
ENTRY = '[{"name":"entry","inputSchema":{"type":"object"}}]'
ENTRIES = {"tools/list": ENTRY, "prompts/list": ENTRY}
DEFINITIONS = objects(
    {"inputSchema": SCHEMAS},
    {
        "outputSchema": SCHEMAS, "title": strings(), "description": strings(), "_meta": META,
        "annotations": values(), "icons": values(), "arguments": values(),
    },
)  # fmt: skip


# ------------------------------------------------------------------ results


@bounds
@given(data=st.data(), method=st.sampled_from(sorted(RESULTS)))
def test_a_result_reaches_the_client_as_it_was_written(data: st.DataObject, method: str) -> None:
    text = data.draw(RESULTS[method])
    sent = members(text)

    async def run(both: Pair) -> None:
        params = {name: json.dumps(value) for name, value in PARAMS[method].items()}
        got = await both.ask(method, params)
        assert plain(got, *ERA_RESULTS) == plain(sent, *ERA_RESULTS)
        meta = members(got.get("_meta", b"{}"))
        assert plain(meta, INFO) == plain(members(sent.get("_meta", b"{}")), INFO)
        assert (INFO in meta) == both.is_modern
        assert ("resultType" in got) == both.is_modern
        if not both.is_modern:
            assert not {"ttlMs", "cacheScope"} & set(got)

    def prepare(upstream: Upstream) -> None:
        upstream.answers[method] = text
        upstream.answers |= ENTRIES

    in_every_pair(run, prepare)


@bounds
@given(texts=st.lists(DEFINITIONS, max_size=3), method=st.sampled_from(sorted(LISTS)))
def test_definitions_reach_the_client_as_they_were_written(texts: list[str], method: str) -> None:
    member, named = LISTS[method]
    items = []
    for number, text in enumerate(texts):
        found = {name: value.decode() for name, value in members(text).items()}
        items.append(written({**found, named: f'"test://entry/{number}"'}, gap=" "))

    async def run(both: Pair) -> None:
        got = await both.ask(method, {})
        listed = [json.loads(item) for item in items]
        assert [one[named] for one in json.loads(got[member])] == [one[named] for one in listed]
        joined = b"[" + b",".join(item.encode().replace(b"\n", b" ") for item in items) + b"]"
        assert got[member] == joined

    in_every_pair(run, lambda upstream: upstream.answers.update({method: f"[{','.join(items)}]"}))


# ------------------------------------------------------------------ arguments


@bounds
@given(
    arguments=objects({}, {"x": values()}),
    extra=values(),
    meta=values(),
    method=st.sampled_from(sorted(RESULTS)),
)
def test_arguments_reach_the_upstream_as_they_were_written(
    arguments: str, extra: str, meta: str, method: str
) -> None:
    own = {name: json.dumps(value) for name, value in PARAMS[method].items()}
    own |= {"example.org/extra": extra, "arguments": arguments}

    async def run(both: Pair) -> None:
        given = {**own, "_meta": written({"example.org/meta": meta, "baggage": '"private=1"'})}
        await both.ask(method, given)
        got = members(members(both.upstream.received[method])["params"])
        sent = members(written(own))
        assert plain(got, "_meta") == plain(sent, "_meta")
        assert members(got["_meta"])["example.org/meta"] == meta.encode()
        assert "baggage" not in members(got["_meta"])

    def prepare(upstream: Upstream) -> None:
        upstream.answers |= {"tools/call": '{"content":[]}', "prompts/get": '{"messages":[]}'}
        upstream.answers["resources/read"] = '{"contents":[]}'
        upstream.answers |= ENTRIES

    in_every_pair(run, prepare)


@bounds
@given(arguments=objects({}, {"x": values()}), is_compact=st.booleans(), has_meta=st.booleans())
def test_arguments_alone_reach_the_upstream_as_they_were_written(
    arguments: str, is_compact: bool, has_meta: bool
) -> None:
    """Most calls: nothing but a name and arguments, which go by a shorter way where they are spelled as we would."""
    if is_compact:
        arguments = json.dumps(json.loads(arguments), separators=(",", ":"), ensure_ascii=False)

    async def run(both: Pair) -> None:
        given = {"name": '"entry"', "arguments": arguments}
        await both.ask("tools/call", {**given, "_meta": "{}"} if has_meta else given)
        got = members(members(both.upstream.received["tools/call"])["params"])
        assert plain(got, "_meta") == plain(members(written(given)))

    def prepare(upstream: Upstream) -> None:
        upstream.answers |= {"tools/call": '{"content":[]}', **ENTRIES}

    in_every_pair(run, prepare)


# ------------------------------------------------------------------ older readers

KNOWN_SINCE = {"audio": "2025-03-26", "resource_link": "2025-06-18"}


@bounds
@given(
    text=RESULTS["tools/call"],
    client=st.sampled_from(sorted(REVISIONS)),
    revision=st.sampled_from(sorted(REVISIONS)),
)
def test_an_older_reader_gets_other_words_only_for_what_it_does_not_know(
    text: str, client: str, revision: str
) -> None:
    sent = members(text)

    async def run(both: Pair) -> None:
        got = await both.ask("tools/call", {"name": '"entry"'})
        untouched = ("content", *ERA_RESULTS)
        assert [pair[0] for pair in plain(got, *ERA_RESULTS)] == [
            pair[0] for pair in plain(sent, *ERA_RESULTS)
        ]
        assert plain(got, *untouched) == plain(sent, *untouched)
        blocks = zip(items(got["content"]), items(sent["content"]), strict=True)
        for read, wrote in blocks:
            kind = json.loads(members(wrote)["type"])
            if KNOWN_SINCE.get(kind, "") > client:
                assert json.loads(members(read)["type"]) in ("text", "resource")
            else:
                assert read == wrote.replace(b"\n", b" ")

    def prepare(upstream: Upstream) -> None:
        upstream.answers |= {**ENTRIES, "tools/call": text}

    in_every_pair(run, prepare, [(client, revision)])


@bounds
@given(
    texts=st.lists(DEFINITIONS, max_size=2), method=st.sampled_from(["tools/list", "prompts/list"])
)
def test_under_a_prefix_only_the_name_is_another(texts: list[str], method: str) -> None:
    named = [
        written(
            {
                **{name: value.decode() for name, value in members(text).items()},
                "name": f'"n{number}"',
            }
        )
        for number, text in enumerate(texts)
    ]

    async def run(both: Pair) -> None:
        got = await both.ask(method, {})
        listed = items(got[LISTS[method][0]])
        assert len(listed) == len(named)
        for number, (read, wrote) in enumerate(zip(listed, named, strict=True)):
            assert plain(members(read), "name") == plain(members(wrote), "name")
            assert list(members(read)) == list(members(wrote))
            assert json.loads(members(read)["name"]) == f"up__n{number}"

    def prepare(upstream: Upstream) -> None:
        upstream.answers[method] = f"[{','.join(named)}]"

    in_every_pair(run, prepare, beside=Scripted("other"))


@bounds
@given(structured=values(), client=st.sampled_from(sorted(REVISIONS)))
def test_structured_content_of_any_shape_reaches_who_knows_it_and_is_text_for_others(
    structured: str, client: str
) -> None:
    async def run(both: Pair) -> None:
        got = await both.ask("tools/call", {"name": '"entry"'})
        wrote = structured.encode().replace(b"\n", b" ")
        if client == MODERN or wrote.startswith(b"{"):
            assert (got["structuredContent"], got["content"]) == (wrote, b"[]")
        else:
            assert "structuredContent" not in got
            (block,) = items(got["content"])
            assert json.loads(members(block)["text"]) == wrote.decode()

    def prepare(upstream: Upstream) -> None:
        result = written({"content": "[]", "structuredContent": structured})
        upstream.answers |= {**ENTRIES, "tools/call": result}

    in_every_pair(run, prepare, [(client, MODERN)])


# ------------------------------------------------------------------ questions, errors

ODD = {"example.org/n": NUMBERS, "_meta": META}
QUESTIONS: dict[str, Text] = {
    "elicitation/create": objects({"message": strings(), "requestedSchema": SCHEMAS}, ODD),
    "url": objects(
        {
            "message": strings(),
            "mode": st.just('"url"'),
            "url": st.just('"https://a.example/?q=%20"'),
        },
        ODD,
    ),
    "sampling/createMessage": objects(
        {"messages": several(BLOCKS), "maxTokens": st.just("1e1")}, ODD
    ),
    "roots/list": objects({}, ODD),
}
OURS = ("_meta", "elicitationId")
"""Members of a question that one era has and the other lacks."""


@bounds
@given(
    data=st.data(),
    kind=st.sampled_from(sorted(QUESTIONS)),
    answer=objects({"action": st.just('"accept"'), "content": values()}, {"_meta": META}),
)
def test_questions_and_answers_pass_as_they_were_written(
    data: st.DataObject, kind: str, answer: str
) -> None:
    params = data.draw(QUESTIONS[kind])
    method = "elicitation/create" if kind == "url" else kind

    async def run(both: Pair) -> None:
        asked = await both.answer_one("tools/call", {"name": '"entry"'}, answer)
        assert json.loads(asked["method"]) == method
        assert plain(members(asked["params"]), *OURS) == plain(members(params), *OURS)
        meta = members(members(asked["params"]).get("_meta", b"{}"))
        assert plain(meta, INPUT_KEY_META) == plain(members(members(params).get("_meta", b"{}")))
        assert plain(both.upstream.answer_to_one()) == plain(members(answer))

    def prepare(upstream: Upstream) -> None:
        own = params
        if kind == "url" and not upstream.is_modern:
            own = written(
                {"elicitationId": '"e"', **{k: v.decode() for k, v in members(params).items()}}
            )
        upstream.answers |= {**ENTRIES, "tools/call": '{"content":[]}'}
        upstream.questions.append(written({"method": json.dumps(method), "params": own}))

    in_every_pair(run, prepare)


@bounds
@given(data=values(), message=strings(), code=st.sampled_from([-32000, -32019, -1, 7, 4711]))
def test_an_error_keeps_its_code_its_words_and_its_data(data: str, message: str, code: int) -> None:
    sent = written({"code": str(code), "message": message, "data": data})

    async def run(both: Pair) -> None:
        body, headers = both.message("tools/call", {"name": '"entry"'})
        response = await both.visitor.post(body, headers)
        got = members(members(response.body)["error"])
        assert (got["code"], json.loads(got["message"])) == (
            str(code).encode(),
            json.loads(message),
        )
        assert got["data"] == data.encode()

    def prepare(upstream: Upstream) -> None:
        upstream.answers |= ENTRIES
        upstream.error = sent

    in_every_pair(run, prepare)


@bounds
@given(
    argument=values(),
    context=values(),
    completion=objects({"values": st.just('["a"]')}, {}),
    extra=values(),
)
def test_completions_pass_as_they_were_written(
    argument: str, context: str, completion: str, extra: str
) -> None:
    params = {
        "ref": written({"type": '"ref/prompt"', "name": '"entry"', "example.org/x": extra}),
        "argument": written({"name": '"a"', "value": '"v"', "example.org/x": argument}),
        "context": written({"arguments": context}),
    }

    async def run(both: Pair) -> None:
        got = await both.ask("completion/complete", params)
        assert got["completion"] == completion.encode().replace(b"\n", b" ")
        sent = members(members(both.upstream.received["completion/complete"])["params"])
        assert plain(sent, "_meta") == plain(members(written(params)))

    def prepare(upstream: Upstream) -> None:
        upstream.answers |= {**ENTRIES, "completion/complete": written({"completion": completion})}

    in_every_pair(run, prepare)


@bounds
@given(logged=values(), logger=strings())
def test_log_messages_keep_what_was_said_in_them(logged: str, logger: str) -> None:
    async def run(both: Pair) -> None:
        level = {LOG_LEVEL: '"info"'} if both.is_modern else {}
        body, headers = both.message("tools/call", {"name": '"entry"', "_meta": written(level)})
        response = await both.visitor.post(body, headers)
        events = [event.data or b"" for event in SseDecoder(2**20).feed(response.body)]
        (said,) = [members(one) for one in events if b"notifications/message" in one]
        assert members(said["params"])["data"] == logged.encode()
        assert json.loads(members(said["params"])["logger"]) == json.loads(logger)

    def prepare(upstream: Upstream) -> None:
        upstream.answers |= {**ENTRIES, "tools/call": '{"content":[]}'}
        upstream.log = written({"level": '"warning"', "logger": logger, "data": logged})

    in_every_pair(run, prepare)


def test_half_a_sign_of_an_upstream_costs_nothing_else() -> None:
    """No property: whatever reads strictly refuses such a text, the reading of this test included."""

    async def run(both: Pair) -> None:
        got = await both.ask("tools/call", {"name": '"entry"'})
        assert got["content"] == rb'[{"type":"text","text":"cut \ufffd"}]'
        assert got["example.org/n"] == b"1.10"

    def prepare(upstream: Upstream) -> None:
        content = r'[{"type":"text","text":"cut \ud83d"}]'
        upstream.answers |= ENTRIES
        upstream.half = f'{{"content":{content},"example.org/n":1.10}}'

    in_every_pair(run, prepare)
