"""How many tokens of language models requests ask for, and how many their answers say they used."""
