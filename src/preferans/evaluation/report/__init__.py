"""The report of a comparison: page, tables, examples, pictures, and the table in the terminal."""
