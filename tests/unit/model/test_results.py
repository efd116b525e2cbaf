"""How the differences of results are shown, and which tolerance they need."""

import json

import pytest

from layer_minimizer.model.places import Places
from layer_minimizer.model.results import Mismatch, explain_nondeterminism, first_difference, needed_tolerance

LONG = "".join(f"{number}," for number in range(500))


@pytest.mark.parametrize(
    ("one", "two", "where", "expected", "actual"),
    [
        ("1", "2", "", "1", "2"),
        ('"a"', '"b"', "", '"a"', '"b"'),
        ('{"a": [1, {"b c": 2}]}', '{"a": [1, {"b c": 3}]}', "$.a[1]['b c']", "2", "3"),
        ('{"a": 1}', '{"a": 1, "b": null}', "$.b", "nothing", "null"),
        ('{"a": 1, "b": 2}', '{"b": 3}', "$.a", "1", "nothing"),
        ("[1, 2]", "[1, 2, 3]", "$", "2 items", "3 items"),
        ('{"b": 1, "a": true}', '{"a": 1, "b": 1.0}', "$.a", "true", "1"),
        ('["x\\ny\\nz"]', '["x\\ny!\\nz"]', "$[0], line 2", '"y"', '"y!"'),
        ("one\ntwo\n", "one\nthree\n", "line 2", '"two"', '"three"'),
        ("one\ntwo\n", "one\n", "line 2", '"two"', "the end"),
        ("one\r\ntwo", "one\ntwo", "line 1", '"one\\r\\n"', '"one\\n"'),
        ("one", "", "", "one", "the end"),
    ],
)
def test_the_first_difference(one: str, two: str, where: str, expected: str, actual: str) -> None:
    found = first_difference(one, two)
    assert (found.where, found.expected, found.actual) == (where, expected, actual)


def test_long_texts_are_cut_around_the_difference_and_not_at_their_start() -> None:
    one, two = json.dumps({"text": LONG}), json.dumps({"text": LONG.replace("400,", "four hundred,")})
    text = str(Mismatch("e", one, two))
    assert "$.text, character 1,491: expected" in text
    assert "399,400,401" in text
    assert "399,four hundred,401" in text
    assert len(text) < 600


@pytest.mark.parametrize(
    ("one", "two", "tolerance"),
    [
        ("[0.1, 1e20]", "[0.10000000000000003, 1e20]", "1e-16"),
        ("loss 0.5", "loss 0.5000001", "1e-06"),
        (json.dumps({"body": '{"x": 0.1}'}), json.dumps({"body": '{"x": 0.1000001}'}), "1e-06"),
        ("[1, 2]", "[1, 3]", "0e+00"),
        ('["a", 0.1]', '["b", 0.1000001]', "0e+00"),
        ("[0.1]", "[0.1, 0.1]", "0e+00"),
        ("1" + "0" * 400, "1" + "0" * 399 + "1", "0e+00"),
        ("[NaN]", "[0.5]", "0e+00"),
    ],
)
def test_the_tolerance_that_noise_needs(one: str, two: str, tolerance: str) -> None:
    assert f"{needed_tolerance([Mismatch('e', one, two)]):.0e}" == tolerance


def test_a_nondeterministic_workload_is_told_which_tolerance_would_do() -> None:
    text = explain_nondeterminism([Mismatch("e", "[1.0]", "[1.000000000000003]")])
    assert "event 'e', $[0]: first 1.0, then 1.000000000000003" in text
    assert "They differ by 3.1e-15 at most" in text
    assert "--tolerance 1e-14" in text
    text = explain_nondeterminism([Mismatch("e", "[1]", "[2]")])
    assert "Seed its random numbers" in text


@pytest.mark.parametrize(
    ("text", "renamed"),
    [
        ('"/env/lib/python3.11/site-packages/a.py"', '"{site-packages}/a.py"'),
        ("-I/env/lib/python3.11/site-packages/a", "-I{site-packages}/a"),
        ("/env/lib/python3.11/site-packages-old", "/env/lib/python3.11/site-packages-old"),
        ("in /env/lib/python3.11/site-packages.", "in {site-packages}."),
        ("/opt/python/a:/opt/python", "{site-packages}/a:{site-packages}"),
        ("/srv/opt/python/a", "/srv/opt/python/a"),
        ("/tmp/scratch/run/task/x", "{task}/x"),
        ("file:///tmp/scratch/run/tmp/x /tmp/x /srv/tmp/x", "file://{tmp}/x {tmp}/x /srv/tmp/x"),
        ("/tmpfile", "/tmpfile"),
    ],
)
def test_paths_of_a_run_get_names(text: str, renamed: str) -> None:
    site = ("/env/lib/python3.11/site-packages", "/opt/python/")
    places = Places.of(site=site, task="/tmp/scratch/run/task", tmp="/tmp/scratch/run/tmp")
    assert places.rename(text) == renamed
    assert places.rename(renamed) == renamed
