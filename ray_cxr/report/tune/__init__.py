"""What a search found: the page of a study, one HTML file."""
