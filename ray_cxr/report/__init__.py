"""Stage 10: the test report, one self-contained HTML file."""
