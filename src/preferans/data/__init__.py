"""Preference datasets: contract, folder, formats, check, repair, and their sources."""
