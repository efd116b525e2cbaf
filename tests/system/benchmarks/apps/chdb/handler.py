"""Sums generated sales with SQL, in the process."""

import json

import chdb

QUERY = """
SELECT ['north', 'south', 'west'][1 + number % 3] AS region, count() AS sales, sum(number * {factor}) AS amount,
       quantileExact(0.5)(number) AS middle
FROM numbers({count}) WHERE number % 7 != 0 GROUP BY region ORDER BY region
"""


def handler(event, context):
    query = event.get("query") or QUERY.format(**event)
    return [json.loads(line) for line in str(chdb.query(query, "JSONEachRow")).splitlines()]
