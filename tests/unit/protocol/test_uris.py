from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waygate_mcp.protocol.uris import MAX_URI_CHARS, UriTemplate, UriTemplateError


@pytest.mark.parametrize(
    ("template", "uri", "values"),
    [
        ("note://{id}", "note://42", {"id": "42"}),
        ("note://{id}", "note://", None),
        ("note://{id}", "note://a/b", None),
        ("note://{id}", "note://a?b", None),
        ("note://{id}", "other://a", None),
        ("note://all", "note://all", {}),
        ("note://all", "note://all/more", None),
        ("test://template/{id}/data", "test://template/123/data", {"id": "123"}),
        ("test://template/{id}/data", "test://template/123/date", None),
        ("a://{one}-{two}", "a://x-y-z", {"one": "x-y", "two": "z"}),
        ("a://{one}/{two}", "a://x/y", {"one": "x", "two": "y"}),
        ("a://{one}.{two}-{three}", "a://1-2.3-4", {"one": "1-2", "two": "3", "three": "4"}),
        ("a://{+path}/{name}", "a://x/y/z", {"path": "x/y", "name": "z"}),
        ("a://{name}/{+path}", "a://x/y/z", {"name": "x", "path": "y/z"}),
        ("a://{+path}", "a://x?y=1#z", {"path": "x?y=1#z"}),
        ("a://x{#part}", "a://x#y/z", {"part": "y/z"}),
        ("a://x{#part}", "a://x", None),
        ("a://{name}{.ext}", "a://x.y", {"name": "x", "ext": "y"}),
        ("a:/{/one,two}", "a://x/y", {"one": "x", "two": "y"}),
        ("a:/{/path*}", "a://x/y/z", {"path": "x/y/z"}),
        ("a://x{;one,two}", "a://x;one=1;two=2", {"one": "1", "two": "2"}),
        ("a://{one,two}", "a://1,2", {"one": "1", "two": "2"}),
        ("a://{one}", "a://1,2", {"one": "1,2"}),
        ("w://{city}{?units,lang}", "w://N%C3%BC?lang=de", {"city": "Nü", "lang": "de"}),
        (
            "w://{city}{?units}{&lang}",
            "w://x?lang=de&units=m",
            {"city": "x", "units": "m", "lang": "de"},
        ),
        ("w://{city}{?units}", "w://x", {"city": "x"}),
        ("w://{city}{?units}", "w://x?other=1", None),
        ("w://{city}{?units}", "w://x?units=1&units=2", None),
        ("w://{city}{?units}", "w://x?units=%FF", None),
        ("a://{name}", "a://%2Fetc%2Fpasswd", {"name": "/etc/passwd"}),
        ("a://{name}", "a://%ff", None),
        ("a://{name}", "a://Zürich", {"name": "Zürich"}),
        ("a.b://{name}", "axb://c", None),
    ],
)
def test_a_uri_is_read_by_its_template(
    template: str, uri: str, values: dict[str, str] | None
) -> None:
    assert UriTemplate(template).match(uri) == values


@pytest.mark.parametrize(
    "template",
    [
        "a://{",
        "a://}",
        "a://{x",
        "a://{}",
        "a://{a b}",
        "a://{a:3}",
        "a://{=a}",
        "a://{a}{b}",
        "a://{a}/{a}",
        "a://{a}{?a}",
        "a://{?q}/more",
        "a://{?q}{more}",
        "a://" + "/".join(f"{{v{number}}}" for number in range(33)),
        "a://" + "x" * 2050,
    ],
)
def test_a_template_that_cannot_be_read_backwards_is_refused(template: str) -> None:
    with pytest.raises(UriTemplateError):
        UriTemplate(template)


def test_a_template_tells_its_variables_and_which_may_be_absent() -> None:
    template = UriTemplate("w://{city}/{+rest}{?units,lang}")
    assert template.variables == ("city", "rest", "units", "lang")
    assert template.optional == {"units", "lang"}
    assert repr(template) == "UriTemplate('w://{city}/{+rest}{?units,lang}')"


def test_the_more_specific_template_sorts_first() -> None:
    texts = ["a://{+all}", "a://{x}/{y}", "a://{x}/fixed", "a://{x}"]
    ordered = sorted((UriTemplate(text) for text in texts), key=lambda one: one.specificity)
    assert [one.text for one in ordered] == [
        "a://{x}/fixed",
        "a://{x}/{y}",
        "a://{x}",
        "a://{+all}",
    ]


def test_a_uri_that_is_too_long_matches_nothing() -> None:
    template = UriTemplate("a://{+x}")
    assert template.match("a://" + "x" * (MAX_URI_CHARS - 4)) is not None
    assert template.match("a://" + "x" * (MAX_URI_CHARS - 3)) is None


def test_a_hostile_uri_takes_time_in_proportion_to_its_length_only() -> None:
    template = UriTemplate("x://{a}-{b}-{c}-{d}-{e}-{f}-{g}/end")
    hostile = "x://" + "-" * 8000 + "?/end"
    started = time.process_time()
    assert template.match(hostile) is None
    assert time.process_time() - started < 1.0


VALUES = st.text(
    alphabet=st.characters(blacklist_characters="/?#,;.&=%{}-"), min_size=1, max_size=20
)


@given(one=VALUES, two=VALUES)
def test_what_was_put_in_comes_out(one: str, two: str) -> None:
    template = UriTemplate("x://{one}/a-{two}.json")
    assert template.match(f"x://{one}/a-{two}.json") == {"one": one, "two": two}


@given(st.text(max_size=200))
def test_no_uri_makes_matching_fail_otherwise_than_by_saying_no(uri: str) -> None:
    for text in ("x://{a}/{+b}", "{a}:{b}-{c}{?d,e}", "{+a}"):
        values = UriTemplate(text).match(uri)
        assert values is None or set(values) <= {"a", "b", "c", "d", "e"}


@given(st.text(alphabet="ab{}+#./;?&,*:1", max_size=30))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    try:
        template = UriTemplate(text)
    except UriTemplateError:
        return
    template.match(text)
