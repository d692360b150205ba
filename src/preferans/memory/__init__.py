"""What a training step takes before it runs: trace, plan, changes, fit."""
