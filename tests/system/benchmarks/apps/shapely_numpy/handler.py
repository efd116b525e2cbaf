"""Measures shapes around points, and which of them meet."""

import numpy as np
from shapely import STRtree, area, points, union_all
from shapely.geometry import Polygon, shape


def handler(event, context):
    places = points(np.asarray(event["points"], dtype=float))
    disks = np.array([place.buffer(event["radius"]) for place in places])
    field = shape(event["field"])
    pairs = STRtree(disks).query(disks, predicate="intersects")
    inside = union_all(disks).intersection(field)
    hull = Polygon(event["points"]).convex_hull
    return {
        "areas": np.round(area(disks), 6).tolist(),
        "pairs": pairs.T.tolist(),
        "covered": round(inside.area / field.area, 6),
        "hull": hull.wkt,
    }
