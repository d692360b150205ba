"""Memory of a training step, before it runs: trace, plan, changes, fit."""
