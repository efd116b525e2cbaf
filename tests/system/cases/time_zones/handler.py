"""Converts times between zones, by the tables that packages bring."""

import datetime
import os

import pytz
import tzlocal
from dateutil import parser


def handler(event, context):
    at = parser.parse(event["at"])
    if event.get("ask") == "local":
        os.environ["TZ"] = event["zone"]
        tzlocal.reload_localzone()
        return at.astimezone(tzlocal.get_localzone()).isoformat()
    if event.get("ask") == "dateutil":
        from dateutil.zoneinfo import get_zonefile_instance

        return at.astimezone(get_zonefile_instance().get(event["zone"])).isoformat()
    if event.get("ask") == "country":
        return list(pytz.country_timezones[event["zone"]])
    if event.get("ask") == "repeated":
        from dateutil.rrule import DAILY, rrule

        return [day.isoformat() for day in rrule(DAILY, count=2, dtstart=at.replace(tzinfo=None))]
    local = at.astimezone(pytz.timezone(event["zone"]))
    return [local.isoformat(), local.tzname(), local.dst() == datetime.timedelta(0)]
