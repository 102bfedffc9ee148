"""Requests that a client should not send: strategies that the gateway and the HTTP server are fed with."""

import json

from hypothesis import strategies as st

from recray.serve.http.requests import MAX_BODY_BYTES

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["i1", "i2", "103", "nope", ""]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)
FIELDS = ("user_id", "k", "history", "history_times", "exclude", "request_time", "explain")
objects = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), json_values, max_size=6)


@st.composite
def cut_or_bent(draw: st.DrawFn) -> bytes:
    """A JSON object with a slice removed and bytes put in its place."""
    text = json.dumps(draw(objects)).encode()
    start, stop = sorted([draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))])
    return text[:start] + draw(st.binary(max_size=8)) + text[stop:]


bodies = st.one_of(
    st.binary(max_size=200),
    objects.map(lambda value: json.dumps(value).encode()),
    json_values.map(lambda value: json.dumps(value).encode()),
    cut_or_bent(),
    st.integers(1, 5_000).map(lambda depth: b'{"history": ' + b"[" * depth),
    st.integers(1, 5_000).map(lambda digits: b'{"k": ' + b"7" * digits + b"}"),
    st.integers(MAX_BODY_BYTES - 1, MAX_BODY_BYTES + 3).map(lambda size: b'"' + b"x" * size),
)
