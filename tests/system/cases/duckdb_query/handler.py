"""Answers SQL over rows that come with the event."""

import duckdb


def handler(event, context):
    with duckdb.connect(":memory:") as connection:
        connection.execute("create table t (k varchar, v double)")
        connection.executemany("insert into t values (?, ?)", event["rows"])
        return connection.execute(event["sql"]).fetchall()
