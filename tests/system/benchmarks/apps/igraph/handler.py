"""Ranks the nodes of a graph and finds paths in it, as SeBS' graph benchmarks do."""

import igraph


def handler(event, context):
    graph = igraph.Graph(edges=[tuple(edge) for edge in event["edges"]])
    path = graph.get_shortest_paths(event["from"], event["to"])[0]
    tree = graph.spanning_tree()
    ranks = [round(rank, 6) for rank in graph.pagerank()]
    return {"ranks": ranks, "path": path, "diameter": graph.diameter(), "tree": tree.get_edgelist()}
