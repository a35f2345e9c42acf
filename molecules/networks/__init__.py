"""Networks that only graphs, molecules and their geometries need, one file a system."""
