"""Russian text without a model: language, intruding words, repetition, asked form, manners, near-duplicates."""
