"""Answers and runs to scores and a report: statistics, measures, judge, verdicts."""
