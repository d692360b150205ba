"""From a recipe to a run folder: recipe, arguments, preparation, DPO, SFT, guards."""
