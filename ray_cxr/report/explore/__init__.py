"""What is in the data: `ray-cxr explore`, one HTML file and one JSON file, before or after `prepare`."""
