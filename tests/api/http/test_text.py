"""HTML markup is removed from text that people write; all other text stays unchanged."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.auth.sign_in import Registration
from api.http.text import clean
from db.users import Role
from tests.makers import PASSWORD, address, error, visitor

PIECES = [
    *("<", ">", "/", "!", "-", "?", "=", "'", '"', " ", "\n", "a", "b", "&", "&lt;", "1"),
    *(
        "script",
        "STYLE",
        "<b>",
        "</b>",
        "<script>",
        "</script>",
        "</style >",
        "<!--",
        "-->",
        "textarea ",
        "<plaintext",
        "<a href=",
        "on=1",
    ),
]
# The same examples in each run, however slow the machine is.
thoroughly = settings(derandomize=True, database=None, deadline=None, max_examples=500)
broken = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Smith & Sons",
            "a < b",
            "1 <2",
            "a<1",
            "5 > 3",
            "a < b && c > d",
            "x <= y >= z",
            "<3",
            "</3",
            "->",
            "<",
        ),
        *(
            "&amp;",
            "&lt;script&gt;",
            "\U0001f600 \u4f60\u597d",
            " spaces \t\n stay ",
            "a<b",
            "if x<y then",
            "x<b or c",
            "n<title_length",
            "cost<table4",
            "",
            "\u202e",
        ),
        *("O'Brien", 'he said "so"', "100 % {sure} \\u0000 $1", "Zo\u00eb", "e\u0301", "\ufb01"),
    ],
)
def test_text_without_markup_stays_unchanged(text):
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<b>bold</b>", "bold"),
        ("a<b>c", "ac"),
        ("Tom <i class='x'>&amp;</i> Jerry", "Tom &amp; Jerry"),
        ("<p>one</p><br/>two", "onetwo"),
        ("a <B>b</B\n> c", "a b c"),
        # The content of scripts and styles is removed too.
        ("x<script>alert(1)</script>y", "xy"),
        ("x<SCRIPT src=//evil>alert(1)</sCript >y", "xy"),
        ("x<style>p{}</style>y", "xy"),
        ("x<script>alert(1)", "x"),
        ("x<script>'</scriptx>'</script>y", "xy"),
        ("<scripted>play</scripted>", "play"),
        # Attributes are removed.
        ("<img src=x onerror=alert(1)>", ""),
        ("<svg/onload=alert(1)>", ""),
        ('<a title="x>y" onclick="z">text</a>', "text"),
        ("<a title='x>y'>text</a>", "text"),
        ("<a href=\n'javascript:alert(1)'>text", "text"),
        # An unclosed tag.
        ("hello <a href=", "hello "),
        ("hello <img src=x onerror=alert(1)", "hello "),
        ("hello <script", "hello "),
        ("hello </scr", "hello "),
        ("hello <!-- there", "hello "),
        ("Bob <textarea ", "Bob "),
        ("x <plaintext ", "x "),
        ("x <PLAINTEXT", "x "),
        ("x <svg/onload", "x "),
        ("a <b <iframe ", "a <b "),
        # Comments, declarations, instructions.
        ("a<!-- <b>x</b> -->b", "ab"),
        ("a<!-->b<!-- -- > -->c", "abc"),
        ("<!DOCTYPE html>a<?php echo 1 ?>b", "ab"),
        # Removed markup leaves no tag behind.
        ("<<b></b>script>alert(1)<<i>/script>", "script>alert(1)/script>"),
        ("<<script>script>alert(1)</script>", "<"),
        ("<scr<script>ipt>alert(1)</scr</script>ipt>", "ipt>alert(1)ipt>"),
        ("<<b>!-- x", "!-- x"),
        ("<<<<b>img src=x>", "img src=x>"),
    ],
)
def test_markup_is_removed(text, left):
    assert clean(text) == left


@thoroughly
@given(st.text() | broken)
def test_cleaning_is_idempotent(text):
    assert clean(clean(text)) == clean(text)


@thoroughly
@given(broken)
def test_no_tag_is_left(text):
    assert not re.search(r"<[A-Za-z/!?][^>]*>", clean(text))
    assert not re.search(r"<((script|style|textarea|plaintext)\b|a[^<]*=)", clean(text), re.IGNORECASE)


@thoroughly
@given(st.text(alphabet=st.characters(exclude_characters="<")))
def test_text_without_an_angle_bracket_stays_unchanged(text):
    assert clean(text) == text


@pytest.mark.parametrize(
    "piece",
    ["<", "<a", "<a ", "<!--", "<script>", "<a '", '<a ">', "<a '>\"", "</", "<<b>", "a<b ", "<a='\""],
)
@pytest.mark.parametrize("tail", ["", ">", "'>", '">'])
def test_cleaning_takes_linear_time(piece, tail):
    # Of a processor: on a loaded machine a quick function ends late too.
    began = time.thread_time()
    clean(piece * (500_000 // len(piece)) + tail)
    assert time.thread_time() - began < 5


def test_a_description_is_cleaned_before_its_length_is_checked(client):
    me = visitor(client, Role.CUSTOMER)
    body = {"type": "payment", "amount": 1, "description": "<b>" + "x" * 498 + "</b> \U0001f600"}
    assert me.post("/payments", body).json["data"]["description"] == "x" * 498 + " \U0001f600"
    result = me.post("/payments", body | {"description": "x" * 501})
    assert error(result) == (400, "VALIDATION_ERROR")
    [fault] = result.json["error"]["details"]["fields"]
    assert fault["field"] == "description"
    assert "500 characters" in fault["message"]


def test_a_name_of_markup_only_is_blank(client):
    body = {"email": address(), "password": PASSWORD}
    result = client.simulate_post("/api/auth/register", json=body | {"name": "Smith & <i>Sons</i> <3"})
    assert result.json["data"]["user"]["name"] == "Smith & Sons <3"
    result = client.simulate_post("/api/auth/register", json=body | {"name": " <b> </b> "})
    assert error(result) == (400, "VALIDATION_ERROR")
    assert Registration(email=address(), password=PASSWORD, name="a < b").name == "a < b"


def test_a_text_far_too_long_is_refused_before_it_is_cleaned(client, monkeypatch):
    monkeypatch.setattr("api.http.text.clean", lambda _text: pytest.fail("it was cleaned"))
    body = {"email": address(), "password": PASSWORD, "name": "<b>" * 200_000}
    result = client.simulate_post("/api/auth/register", json=body)
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == ["name"]
