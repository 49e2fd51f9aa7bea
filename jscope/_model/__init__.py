"""What is made of a model: declarations, initial values, updates, templates, plans."""
