"""flatc output; made by scripts/generate_schema.py, never edited."""
