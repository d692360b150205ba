"""Preference datasets: contract, folder, formats, check and repair, OpenAssistant, ratings, personas, card."""
