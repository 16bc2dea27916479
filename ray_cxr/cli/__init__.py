"""The command line, on top of all stages: `ray-cxr`."""
