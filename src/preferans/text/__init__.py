"""Russian text without a model: language, intruding words, loops, form, manners, duplicates."""
