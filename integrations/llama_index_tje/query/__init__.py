"""A cheap query engine, and a deeper one where it is unsure: the engine, its turn and its answers."""
