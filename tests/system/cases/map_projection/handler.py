"""Areas of places; PROJ itself opens its database when something is projected, for which no given event asks."""

import pyproj
import shapely
import shapely.ops


def handler(event, context):
    shape = shapely.from_wkt(event["shape"])
    if "to" in event:
        transformer = pyproj.Transformer.from_crs(event.get("from", 4326), event["to"], always_xy=True)
        shape = shapely.ops.transform(transformer.transform, shape)
    if event.get("ask") == "name":
        return pyproj.CRS.from_epsg(event["to"]).name
    if event.get("ask") == "length":
        return pyproj.Geod(ellps="WGS84").geometry_length(shape)
    return [shape.geom_type, round(shape.area, 6), shape.bounds]
