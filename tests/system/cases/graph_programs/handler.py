"""Draws and reduces graphs; the packages bring programs that they run."""

import imageio_ffmpeg
import pygraphviz


def handler(event, context):
    if event["do"] == "draw":
        return pygraphviz.AGraph("digraph { a -> b }").string()
    if event["do"] == "reduce":
        graph = pygraphviz.AGraph("digraph { a -> b; b -> c; a -> c }")
        graph.tred()
        return sorted(map(list, graph.edges()))
    return imageio_ffmpeg.get_ffmpeg_version()
