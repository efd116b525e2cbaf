"""Fills a template of a page with numbers, as SeBS' dynamic-html does."""

import random

from jinja2 import Environment

PAGE = """<html><body><h1>Hello, {{ user | title }}!</h1>
{% for number in numbers %}<li class="{{ loop.cycle('odd', 'even') }}">{{ "%06d" | format(number) }}</li>
{% else %}<p>none</p>{% endfor %}</body></html>"""


def handler(event, context):
    numbers = random.Random(event["seed"]).sample(range(1_000_000), event["count"])
    page = Environment(autoescape=True).from_string(PAGE)
    return page.render(user=event["user"], numbers=numbers)
